import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { isOlder, LOCK_FILE, problemOf, trainingPackages } from '../../../cli/train/environment/packages.ts'

const pinned = new Map(
  [...readFileSync(LOCK_FILE, 'utf8').matchAll(/^([\w.-]+)==(\S+)$/gm)].map(([, name = '', version = '']) => [
    name.toLowerCase(),
    version,
  ]),
)

test('the lock file has every package that the trainer needs, in a version that it can work with', () => {
  const { needed, python } = trainingPackages()
  expect(python).toBe('3.11')
  expect(needed.map(({ name }) => name)).toEqual([
    'torch',
    'transformers',
    'peft',
    'safetensors',
    'gguf',
    'numpy',
  ])
  for (const each of needed) {
    expect([each.name, problemOf(each, pinned.get(each.name) ?? null)]).toEqual([each.name, undefined])
  }
})

test('the lock file pins everything and nothing twice', () => {
  const lines = readFileSync(LOCK_FILE, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
  expect(lines.filter((line) => !/^[\w.-]+==[\w.]+$/.test(line))).toEqual([])
  expect(pinned.size).toBe(lines.length)
})

test.each([
  ['2.6', '2.13.0', true],
  ['2.13.0', '2.6', false],
  ['2.6', '2.6.0', false],
  ['2.6.0+cpu', '2.6', false],
  ['2.6.0rc1', '2.6.1', true],
  ['', '1', true],
])('%s is older than %s: %s', (version, than, expected) => {
  expect(isOlder(version, than)).toBe(expected)
})
