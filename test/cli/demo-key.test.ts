import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { demoKey } from '../../cli/local/demo-key.ts'

test('the demo key of a state folder stays, with the limit of each start', () => {
  const parent = mkdtempSync(join(tmpdir(), 'apar-demo-key-'))
  const state = join(parent, 'state')
  try {
    const first = demoKey(10, state)
    const second = demoKey(20, state)
    expect(second.key).toBe(first.key)
    expect(second.record).toMatchObject({ id: 'demo', limits: { requests_per_minute: 20 } })
    const secret = second.key.slice('apar_demo_'.length)
    const hash = createHash('sha256').update(second.record.salt + secret)
    expect(second.record.hash).toBe(hash.digest('hex'))
    expect(statSync(join(state, 'demo-key')).mode & 0o777).toBe(0o600)
    expect(readFileSync(join(state, 'demo-key'), 'utf8')).toBe(`${first.key}\n`)
    writeFileSync(join(state, 'demo-key'), 'apar_other_0123456789abcdef')
    expect(() => demoKey(10, state)).toThrow(/demo-key does not hold a key/)
  } finally {
    rmSync(parent, { recursive: true })
  }
})

test('without a state folder it is a new one each time', () => {
  expect(demoKey(10, undefined).key).not.toBe(demoKey(10, undefined).key)
})
