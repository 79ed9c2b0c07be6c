import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, test } from 'vitest'
import { readRecordedLoad } from '../../../cli/bench/serving/workload/recorded-load.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-load-'))
afterAll(() => rmSync(folder, { recursive: true }))

function fileOf(text: string | Buffer): string {
  const file = join(folder, `${Math.random()}.csv`)
  writeFileSync(file, text)
  return file
}

const AZURE = `TIMESTAMP,ContextTokens,GeneratedTokens\r
2023-11-16 18:17:03.9799600,4808,10\r
2023-11-16 18:17:04.0319600,110,27\r
2023-11-16 18:18:04.0000000,20,5\r
`

describe('a recorded load', () => {
  test('of Azure has times to parts of a millisecond', async () => {
    const requests = await readRecordedLoad(fileOf(AZURE), 10)
    expect(requests.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens])).toEqual([
      [4808, 10],
      [110, 27],
      [20, 5],
    ])
    expect(requests[0]?.at).toBe(0)
    expect(requests[1]?.at).toBeCloseTo(52, 3)
    expect(requests[2]?.at).toBeCloseTo(60_020.04, 2)
  })

  test('of Azure in 2024 has a zone, and may be compressed', async () => {
    const text =
      'TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00+00:00,2399,6\n'
    const requests = await readRecordedLoad(fileOf(gzipSync(text)), 10)
    expect(requests.map(({ inputTokens }) => inputTokens)).toEqual([2399, 2162])
    expect(requests[1]?.at).toBeCloseTo(9.93, 3)
  })

  test('of BurstGPT has times in seconds, and requests that failed, which are left out', async () => {
    const text = `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,Conversation log
118.5,GPT-4,417,276,693,API log
`
    expect(await readRecordedLoad(fileOf(text), 10)).toEqual([
      { at: 0, inputTokens: 472, outputTokens: 18 },
      { at: 113_500, inputTokens: 417, outputTokens: 276 },
    ])
  })

  test('is read up to the limit, not to its end', async () => {
    expect(await readRecordedLoad(fileOf(`${AZURE}nonsense\n`), 2)).toHaveLength(2)
  })

  test.each([
    ['time,in,out\n1,2,3\n', 'columns'],
    ['Timestamp,Request tokens,Response tokens\nsoon,2,3\n', ':2'],
    ['Timestamp,Request tokens,Response tokens\n1,2,few\n', ':2'],
    ['Timestamp,Request tokens,Response tokens\n', 'no requests'],
  ])('of another form is refused: %j', async (text, reason) => {
    await expect(readRecordedLoad(fileOf(text), 10)).rejects.toThrow(reason)
  })
})
