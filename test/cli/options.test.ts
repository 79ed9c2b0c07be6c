import { expect, test } from 'vitest'
import { byteSize, folder } from '../../cli/options.ts'

test('a size is a number of bytes, with or without a unit', () => {
  expect(['1', '4096', '512MiB', '1.5GiB', '2TiB'].map(byteSize)).toEqual([
    ...[1, 4096, 512 * 2 ** 20, 1.5 * 2 ** 30, 2 * 2 ** 40],
  ])
  for (const text of ['', '0', '-1', '4GB', '4 GiB', 'GiB', '1e9', '0x10', '0.1', '9e99', '9'.repeat(20)]) {
    expect(() => byteSize(text), text).toThrow('a number of bytes is needed')
  }
})

test('a folder has a name: an empty one would be the current folder', () => {
  expect(folder('state')).toBe('state')
  expect(() => folder('')).toThrow('a folder is needed')
})
