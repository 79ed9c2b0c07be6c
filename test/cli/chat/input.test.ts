import { expect, test } from 'vitest'
import { InputLines } from '../../../cli/chat/input.ts'

function texts(...lines: string[]): (string | undefined)[] {
  const input = new InputLines()
  return lines.map((line) => input.push(line))
}

test('a line is a text, a backslash joins it to the next one', () => {
  expect(texts('one', 'two \\', 'three')).toEqual(['one', undefined, 'two \nthree'])
})

test('what is between fences is one text, blank lines and backslashes as they are', () => {
  expect(texts('"""', 'a\\', '', '  b', ' """ ', 'c')).toEqual([
    ...[undefined, undefined, undefined, undefined],
    'a\\\n\n  b',
    'c',
  ])
})

test('what is not complete may be forgotten', () => {
  const input = new InputLines()
  input.push('"""')
  input.push('lost')
  expect(input.isOpen).toBe(true)
  input.clear()
  expect(input.isOpen).toBe(false)
  expect(input.push('new')).toBe('new')
})
