// The binary protocol, as clients of Node speak it.
const assert = require('assert')
const memjs = require('memjs')

const [host, port] = process.argv.slice(1)
const c = memjs.Client.create(`${host}:${port}`, { timeout: 20, conntimeout: 20, retries: 1 })
const text = async key => { const { value } = await c.get(key); return value && value.toString() }

async function main () {
  assert(await c.set('mj:k', 'value', {}))
  assert.strictEqual(await text('mj:k'), 'value')
  assert.strictEqual(await c.add('mj:k', 'other', {}), false)
  assert(await c.replace('mj:k', 'new', {}))
  assert(await c.append('mj:k', 'er'))
  // (Its prepend sends an append, to any server.)
  assert.strictEqual(await text('mj:k'), 'newer')
  assert.strictEqual(await text('mj:absent'), null)
  assert.strictEqual((await c.increment('mj:n', 1, { initial: 41 })).value, 41)
  assert.strictEqual((await c.increment('mj:n', 1, {})).value, 42)
  assert.strictEqual((await c.decrement('mj:n', 50, {})).value, 0)
  const big = Buffer.alloc(1000 * 1000, 'memjs')
  assert(await c.set('mj:big', big, {}))
  assert(big.equals((await c.get('mj:big')).value))
  assert(await c.touch('mj:k', 100))
  const sets = Array.from({ length: 300 }, (_, n) => c.set(`mj:${n}`, `${n}`, {}))
  assert((await Promise.all(sets)).every(Boolean))
  const found = await Promise.all(sets.map((_, n) => text(`mj:${n}`)))
  assert.deepStrictEqual(found, sets.map((_, n) => `${n}`))
  assert(await c.delete('mj:k'))
  assert.strictEqual(await c.delete('mj:k'), false)
  await new Promise((resolve, reject) => c.stats((error, server, stats) => {
    if (error || !stats || !('curr_items' in stats)) reject(error || new Error('no statistics')); else resolve()
  }))
  c.close()
  console.log('binary, 300 requests at once, values of 1 MB')
}

main().catch(error => { console.error(error); process.exit(1) })
