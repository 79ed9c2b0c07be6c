import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { cleanState } from '../../cli/local/state-cleanup.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apar-state-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true, force: true })
})

/** The first page of a SQLite database whose schema has so many entries. */
function page(entries: number): Buffer {
  const bytes = Buffer.alloc(4096)
  bytes.write('SQLite format 3\0', 'latin1')
  bytes[100] = 13
  bytes.writeUInt16BE(entries, 103)
  return bytes
}

function write(name: string, bytes: Buffer): void {
  writeFileSync(join(folder, 'keys', name), bytes)
}

const clean = () => cleanState(folder, { stored: ['keys'], unstored: ['streams'] })
const left = () => readdirSync(join(folder, 'keys')).sort()

it('removes the files of objects that hold nothing, and no others', () => {
  mkdirSync(join(folder, 'keys'))
  write('empty.sqlite', page(0))
  write('killed.sqlite', page(0))
  write('killed.sqlite-wal', Buffer.alloc(0))
  write('killed.sqlite-shm', Buffer.alloc(32_768))
  write('never-written.sqlite', Buffer.alloc(0))
  const kept = {
    'data.sqlite': page(2),
    'data-and-more.sqlite': Buffer.concat([page(0), Buffer.alloc(4096)]),
    'data-in-the-log.sqlite': page(0),
    'data-in-the-log.sqlite-wal': Buffer.alloc(4152),
    'not-a-database.sqlite': Buffer.alloc(4096),
    'something-else': page(0),
  }
  for (const [name, bytes] of Object.entries(kept)) write(name, bytes)
  clean()
  expect(left()).toEqual(Object.keys(kept).sort())
})

it('removes the classes that store nothing, whatever their files hold', () => {
  mkdirSync(join(folder, 'streams'))
  writeFileSync(join(folder, 'streams', 'a.sqlite'), page(3))
  clean()
  expect(existsSync(join(folder, 'streams'))).toBe(false)
})

it('makes a folder that has had thousands of files small again', () => {
  mkdirSync(join(folder, 'keys'))
  for (let file = 0; file < 3000; file++) write(`${'x'.repeat(64)}${file}.sqlite`, page(0))
  write('data.sqlite', page(1))
  const large = statSync(join(folder, 'keys')).size
  clean()
  expect(left()).toEqual(['data.sqlite'])
  expect(statSync(join(folder, 'keys')).size).toBeLessThan(large)
  expect(existsSync(join(folder, 'keys.moved'))).toBe(false)
})

it('finishes what an earlier clean-up has begun', () => {
  mkdirSync(join(folder, 'keys'))
  mkdirSync(join(folder, 'keys.moved'))
  write('still-here.sqlite', page(1))
  writeFileSync(join(folder, 'keys.moved', 'moved.sqlite'), page(1))
  clean()
  expect(left()).toEqual(['moved.sqlite', 'still-here.sqlite'])
  expect(existsSync(join(folder, 'keys.moved'))).toBe(false)
})
