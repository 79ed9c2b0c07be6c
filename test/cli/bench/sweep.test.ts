import { InvalidArgumentError } from 'commander'
import { expect, test } from 'vitest'
import { argumentsOf, checkSwept, pointsOf, sweep, sweepText } from '../../../cli/bench/serving/sweep.ts'

const BOTH = sweep('watermark=0,0.1', sweep('blocks=500, 1000,500'))

test('every combination of the values is a node of its own', () => {
  expect(pointsOf(BOTH)).toEqual([
    { blocks: 500, watermark: 0 },
    { blocks: 500, watermark: 0.1 },
    { blocks: 1000, watermark: 0 },
    { blocks: 1000, watermark: 0.1 },
  ])
  expect(argumentsOf({ blocks: 500, watermark: 0.1 })).toEqual(['--blocks', '500', '--watermark', '0.1'])
  expect(sweepText(BOTH)).toBe('sweep of blocks 500, 1000; sweep of watermark 0, 0.1')
  expect(pointsOf(new Map())).toEqual([{}])
})

test('sizes are as the option of the node has them', () => {
  expect(pointsOf(sweep('kv-cache-memory-bytes=1MiB,2MiB'))).toEqual([
    { 'kv-cache-memory-bytes': 2 ** 20 },
    { 'kv-cache-memory-bytes': 2 ** 21 },
  ])
})

test.each([
  'blocks',
  'blocks=',
  'blocks=0',
  'blocks=1,x',
  'watermark=1',
  'policy=eager',
  'blocks=1=2',
  'toString=1',
])('refuses %s', (text) => {
  expect(() => sweep(text)).toThrow(InvalidArgumentError)
})

test('refuses a limit that is given twice', () => {
  expect(() => sweep('blocks=5', BOTH)).toThrow('blocks is swept twice')
  for (const args of [
    ['--blocks', '5'],
    ['--threads', '1', '--blocks=5'],
  ])
    expect(() => checkSwept(BOTH, args)).toThrow('--blocks')
  expect(() => checkSwept(BOTH, ['--max-branches', '5'])).not.toThrow()
})
