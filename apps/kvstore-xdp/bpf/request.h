/* What a request that was not answered from the cache may change.
 *
 * The cache must know every key that a datagram changes, or say that it does not: memcached
 * carries out several commands of one datagram, and takes the data of a `set` that it does
 * not like for commands. So only a datagram that is exactly one well-formed command, from
 * the first byte to the last, is understood; of any other, anything is believed.
 */
#pragma once

#include "cache.h"

enum kind {
	/* Anything. */
	UNKNOWN,
	/* A `get` of one key. */
	READ,
	/* Changes nothing. */
	HARMLESS,
	/* Changes one key. */
	WRITE,
	/* And may give it a time at which it expires. */
	WRITE_EXPIRING,
	/* Removes everything, now. */
	FLUSH,
};

/* The end of a field. */
static __always_inline void end_field(struct line *line)
{
	__u32 field = line->fields;

	if (line->field_length == 0)
		line->empty = 1;
	if (field == 0)
		line->first_length = line->field_length;
	if (field == 1)
		line->key_length = line->field_length;
	if (line->digits && field < MAX_FIELDS)
		line->numeric |= 1 << field;
	if (field == 2)
		line->flags = line->number;
	if (field == 3)
		line->expiry = line->number;
	if (field == 4)
		line->bytes = line->number;
	line->fields = field + 1;
	line->field_length = 0;
	line->digits = 1;
	line->number = 0;
}

/* What the loop over a line is given. */
struct reader {
	struct scratch *scratch;
};

/* Reads one byte of the line; 1 ends the loop. */
static long read_byte(__u32 at, void *argument)
{
	struct scratch *scratch = ((struct reader *)argument)->scratch;
	struct line *line = &scratch->line;
	unsigned char byte;

	if (at >= MAX_TEXT || at >= line->total)
		return 1;
	byte = ((unsigned char *)scratch->text)[at];
	if (byte == '\n') {
		line->length = at + 1;
		return 1;
	}
	if (byte == '\r') {
		/* Only right before the end. */
		if (at + 2 > line->total || at + 1 >= MAX_TEXT ||
		    ((unsigned char *)scratch->text)[at + 1] != '\n')
			line->bad = 1;
		line->returned = 1;
		end_field(line);
		return 0;
	}
	if (byte == ' ') {
		end_field(line);
		return 0;
	}
	if (byte < ' ')
		line->bad = 1;
	line->field_length++;
	/* Numbers of up to 64 bits are cas ids, the others have at most 32. */
	if (byte < '0' || byte > '9' || line->field_length > (line->fields == 5 ? 19 : 10))
		line->digits = 0;
	else
		line->number = line->number * 10 + (byte - '0');
	return 0;
}

/* Whether the first word of the text is this one. */
#define IS(word) (first == sizeof(word) - 1 && begins(text, word, sizeof(word) - 1))

/* What the text in the scratch, of `total` bytes, asks for; the length of its key. */
static __always_inline enum kind classify(struct scratch *scratch, __u32 total, __u32 *key_length)
{
	struct reader reader = { .scratch = scratch };
	struct line *line = &scratch->line;
	const char *text = (const char *)scratch->text;
	__u32 first, fields, whole, words;

	__builtin_memset(line, 0, sizeof(*line));
	line->total = total;
	line->digits = 1;
	bpf_loop(MAX_TEXT, read_byte, &reader, 0);
	/* A line may end without a carriage return, but clients' do not. */
	if (line->bad || !line->length || !line->returned)
		return UNKNOWN;
	first = line->first_length;
	fields = line->fields;
	whole = line->length == total;
	*key_length = line->key_length;

	words = 0;
	if (IS("set") || IS("add") || IS("replace") || IS("append") || IS("prepend"))
		words = 5;
	if (IS("cas"))
		words = 6;
	if (words) {
		/* Numbers that memcached accepts, and exactly so many bytes of data. */
		__u32 numbers = words == 6 ? 0x3c : 0x1c;

		if (line->empty || (fields != words && fields != words + 1))
			return UNKNOWN;
		if ((line->numeric & numbers) != numbers || line->flags > 0xffffffffull ||
		    line->expiry > 0x7fffffffull || line->bytes > MAX_TEXT)
			return UNKNOWN;
		if (line->key_length > MAX_KEY || line->length + line->bytes + 2 != total)
			return UNKNOWN;
		return line->expiry ? WRITE_EXPIRING : WRITE;
	}
	if (!whole)
		return UNKNOWN;
	if (IS("get") && fields == 2 && !line->empty)
		return line->key_length <= MAX_KEY ? READ : HARMLESS;
	if (IS("get") || IS("gets") || IS("version") || IS("stats") || IS("verbosity") ||
	    IS("quit"))
		return HARMLESS;
	if (line->empty)
		return UNKNOWN;
	if (IS("delete") || IS("incr") || IS("decr") || IS("touch")) {
		/* memcached refuses a longer one. */
		if (fields < 2 || line->key_length > MAX_KEY)
			return HARMLESS;
		return IS("touch") ? WRITE_EXPIRING : WRITE;
	}
	if (IS("flush_all") && fields == 1)
		return FLUSH;
	return UNKNOWN;
}
