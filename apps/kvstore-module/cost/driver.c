/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Calls the store as the module does, in a process: `cargo exo bench module` counts the
 * instructions, with the store compiled in several ways.
 *
 *	driver KEY_BYTES VALUE_BYTES KEYS_A_GET COUNT
 *
 * Stores 4,096 items, and then asks COUNT times: for KEYS_A_GET keys at once, or, if
 * that is 0, to store one. Prints how many bytes the replies had.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct exo_store;
struct exo_store *exo_store_new(uint8_t *memory, size_t len, const uint64_t seed[2],
				uint32_t pid);
size_t exo_store_answer(struct exo_store *store, const uint8_t *request, size_t len,
			uint8_t *reply, size_t room, uint64_t unix_seconds, uint32_t uptime);

#define MEMORY (64u << 20)
#define ITEMS 4096u
#define LONGEST 1472

static struct exo_store *store;
static char request[2 * LONGEST];
static uint8_t reply[LONGEST];

void exo_store_panic(const uint8_t *file, size_t len, uint32_t line)
{
	fprintf(stderr, "panic at %.*s:%u\n", (int)len, file, line);
	abort();
}

/* Appends text to a request; exits if it does not fit. */
static size_t put_key(size_t at, const char *before, unsigned int number, int key_bytes)
{
	at += snprintf(request + at, sizeof(request) - at, "%s%0*u", before, key_bytes, number);
	if (at > LONGEST) {
		fprintf(stderr, "a request of more than %d bytes\n", LONGEST);
		exit(2);
	}
	return at;
}

static size_t frame(void)
{
	memcpy(request, "\0\1\0\0\0\1\0\0", 8);
	return 8;
}

static size_t set(unsigned int number, int key_bytes, int value_bytes)
{
	size_t at = put_key(frame(), "set ", number, key_bytes);

	at += snprintf(request + at, sizeof(request) - at, " 0 0 %d\r\n", value_bytes);
	if (at + value_bytes + 2 > LONGEST)
		put_key(LONGEST, " ", 0, 0);
	memset(request + at, 'v', value_bytes);
	memcpy(request + at + value_bytes, "\r\n", 2);
	return at + value_bytes + 2;
}

static size_t get(unsigned int number, int key_bytes, int keys)
{
	size_t at = put_key(frame(), "get ", number % ITEMS, key_bytes);

	for (int i = 1; i < keys; i++)
		at = put_key(at, " ", (number + i) % ITEMS, key_bytes);
	memcpy(request + at, "\r\n", 2);
	return at + 2;
}

static size_t answer(size_t len)
{
	return exo_store_answer(store, (const uint8_t *)request, len, reply, sizeof(reply),
				1700000000, 1);
}

int main(int argc, char **argv)
{
	const uint64_t seed[2] = { 1, 2 };
	unsigned long long total = 0;
	uint8_t *memory = aligned_alloc(4096, MEMORY);

	if (argc != 5 || !memory)
		return 2;
	int key_bytes = atoi(argv[1]), value_bytes = atoi(argv[2]), keys = atoi(argv[3]);
	unsigned int count = atoi(argv[4]), number = 0;

	store = exo_store_new(memory, MEMORY, seed, 0);
	if (!store)
		return 2;
	for (unsigned int i = 0; i < ITEMS; i++)
		if (answer(set(i, key_bytes, value_bytes)) != 16)
			return 3;
	for (unsigned int i = 0; i < count; i++) {
		/* Odd, so that all are used, in an order that is not that of storing. */
		number = (number + 1543) % ITEMS;
		total += answer(keys ? get(number, key_bytes, keys)
				     : set(number, key_bytes, value_bytes));
	}
	printf("%llu\n", total);
	return 0;
}
