import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { createProgram } from '../../../cli/program.ts'
import { chatStream, type ScriptedServer, startScriptedServer } from './scripted-server.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-bench-'))
const questions = join(folder, 'question.jsonl')
const azure = join(folder, 'azure.csv')

/** A server of another make: three tokens an answer, a token for each word of a prompt and five of its template. */
let server: ScriptedServer
beforeAll(async () => {
  const lines = [1, 2, 3].map((id) => ({ question_id: id, category: 'generic', turns: [`Question ${id}`] }))
  writeFileSync(questions, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  const day = '2023-11-16 18:17:0'
  writeFileSync(azure, `TIMESTAMP,ContextTokens,GeneratedTokens\n${day}0.0,30,4\n${day}0.5,12,2\n`)
  server = await startScriptedServer(({ path, body }, response) => {
    if (path === '/metrics') return void response.end(`apar_steps_total ${10 * server.calls.length}`)
    if (path !== '/v1/chat/completions') return void response.writeHead(404).end()
    const [message] = body.messages as { content: string }[]
    const prompt = 5 + (message?.content.split(' ').length ?? 0)
    if (message?.content === 'Question 2' && body.max_tokens !== 1)
      return void response.writeHead(503).end('{"error": {"code": "overloaded", "message": "busy"}}')
    response.end(chatStream(['one ', 'two ', 'three'], { prompt, output: 3 }))
  })
})
beforeEach(() => void server.calls.splice(0))
afterAll(async () => {
  await server.close()
  rmSync(folder, { recursive: true })
})

/** Returns what is printed. */
async function bench(...args: string[]): Promise<string> {
  return await run('serving', '--url', `${server.url}/v1/`, '--model', 'm', ...args)
}

async function run(...args: string[]): Promise<string> {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {})
  const error = vi.spyOn(console, 'error').mockImplementation(() => {})
  try {
    await (await createProgram())
      .exitOverride()
      .parseAsync(['node', 'apar', '--config', 'none', 'bench', ...args])
    return log.mock.calls.join('\n')
  } finally {
    log.mockRestore()
    error.mockRestore()
  }
}

function linesOf(file: string): Record<string, unknown>[] {
  return readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

describe('apar bench serving at another server', () => {
  test('has figures, and fails, when no request was completed', async () => {
    const busy = join(folder, 'busy.jsonl')
    writeFileSync(busy, `${JSON.stringify({ question_id: 2, turns: ['Question 2'] })}\n`)
    const out = join(folder, 'busy-out.jsonl')
    const failure = bench('--dataset', busy, '--out', out)
    await expect(failure).rejects.toThrow(expect.objectContaining({ code: 'not_measured' }))
    expect(linesOf(out).at(-1)).toMatchObject({ type: 'summary', completed: 0, errors: { overloaded: 1 } })
  })

  test('asks it plainly and reports what it got', async () => {
    const out = join(folder, 'out.jsonl')
    const markdown = join(folder, 'report.md')
    const printed = JSON.parse(
      await bench(
        '--dataset',
        questions,
        '--json',
        '--out',
        out,
        '--markdown',
        markdown,
        '--slo-ttft',
        '60000',
      ),
    )
    expect(printed).toMatchObject({
      version: 1,
      model: 'm',
      where: server.url,
      workload: 'question',
      prompts: 3,
    })
    expect(printed.cells).toMatchObject(
      [
        {
          ...{
            mode: 'plain',
            rate: null,
            concurrency: null,
            requests: 3,
            completed: 2,
            errors: { overloaded: 1 },
          },
          ...{ output_tokens: 6, prompt_tokens: 14, node: null, goodput: { share: 2 / 3 } },
        },
      ].map((cell) => ({ ...cell, goodput: { share: expect.closeTo(cell.goodput.share, 4) } })),
    )
    // A first request that is not measured, then the three.
    expect(server.calls.map(({ path, body }) => [path, body.max_tokens])).toEqual([
      ['/v1/chat/completions', 1],
      ...Array(3).fill(['/v1/chat/completions', 512]),
    ])
    for (const { body } of server.calls)
      expect(Object.keys(body).filter((name) => /apar|ignore_eos|min_tokens/.test(name))).toEqual([])
    const lines = linesOf(out)
    expect(lines.map(({ type }) => type)).toEqual(['run', 'request', 'request', 'request', 'summary'])
    const [first] = lines.filter(({ id }) => id === '1')
    expect(first).toMatchObject({
      prompt: 'Question 1',
      text: 'one two three',
      output_tokens: 3,
      error: null,
    })
    expect(readFileSync(markdown, 'utf8')).toContain('plain: failed: 1 overloaded')
  })

  test('computes prompts once before, and takes modes in turns', async () => {
    await bench('--dataset', questions, '--prompts', '1', '--modes', 'serial,parallel', '--rounds', '2')
    const modes = server.calls.map(({ body }) => [
      body.max_tokens,
      (body.apar as { enabled: boolean }).enabled,
    ])
    expect(modes).toEqual([
      ...[
        [1, false],
        [1, false],
      ],
      ...[
        [512, false],
        [512, true],
        [512, true],
        [512, false],
      ],
    ])
  })

  test('repeats a recorded load with prompts and answers of its lengths', async () => {
    const printed = JSON.parse(
      await bench('--arrivals', azure, '--rates', '100', '--json', '--no-ignore-eos'),
    )
    expect(printed.cells[0].prompt_tokens).toBe(42)
    const measured = server.calls.filter(({ body }) => body.max_tokens !== 1)
    expect(measured.map(({ body }) => [body.max_tokens, body.ignore_eos])).toEqual([
      [4, undefined],
      [2, undefined],
    ])
    server.calls.splice(0)
    await bench('--arrivals', azure, '--rates', '100')
    expect(server.calls.at(-1)?.body).toMatchObject({ max_tokens: 2, min_tokens: 2, ignore_eos: true })
  })

  test('sends the same random prompts for the same seed, others for each rate', async () => {
    const prompts = async (seed: string) => {
      server.calls.splice(0)
      await bench(
        '--dataset',
        'random',
        '--prompts',
        '2',
        '--input-tokens',
        '10-40',
        '--rates',
        '50,100',
        '--seed',
        seed,
      )
      return server.calls.map(({ body }) => (body.messages as { content: string }[])[0]?.content)
    }
    const first = await prompts('5')
    expect(await prompts('5')).toEqual(first)
    expect(await prompts('6')).not.toEqual(first)
    // Two for the calibration, then two for each rate.
    expect(new Set(first).size).toBe(6)
    const lengths = first.map((prompt) => prompt?.split(' ').length)
    expect(lengths.slice(2, 4)).toEqual(lengths.slice(4, 6))
  })

  test('draws plots over the rate', async () => {
    const plots = join(folder, 'plots')
    await bench('--dataset', questions, '--rates', '50,100', '--plots', plots)
    for (const name of ['ttft', 'tpot', 'e2e', 'throughput'])
      expect(existsSync(join(plots, `${name}-over-rate.svg`)), name).toBe(true)
  })

  test.each([
    [['--dataset', 'random', '--adapter', 'x'], '--adapter'],
    [['--dataset', 'nowhere.jsonl'], 'nowhere.jsonl'],
    [[], '--dataset'],
    [['--dataset', 'random', '--', '--blocks', '5'], '--blocks'],
    [['--dataset', 'random', '--api', 'websocket'], 'API key'],
    [['--dataset', 'random', '--sweep', 'blocks=5,6'], '--sweep'],
    [['--dataset', 'random', '--format', 'reference', '--out', 'x'], '--node-metrics'],
    [['--dataset', 'random', '--format', 'reference'], '--out'],
  ])('refuses %j', async (args, reason) => {
    vi.stubEnv('APAR_API_KEY', '')
    await expect(bench(...args)).rejects.toThrow(reason)
    expect(server.calls).toEqual([])
  })

  test('ends before it measures where the first request fails', async () => {
    await expect(bench('--dataset', questions, '--api', 'websocket', '--key', 'k')).rejects.toMatchObject({
      code: 'not_measured',
    })
  })
})

test('apar bench report puts runs beside each other', async () => {
  const [one, two] = [join(folder, 'one.jsonl'), join(folder, 'two.jsonl')]
  const load = ['--dataset', questions, '--rates', '50,100', '--node-metrics', `${server.url}/metrics`]
  for (const out of [one, two]) await bench(...load, '--out', out)
  const plots = join(folder, 'both')
  const table = await run('report', one, `other=${two}`, '--plots', plots)
  for (const row of ['one: plain, 50 requests/s', 'other: plain, 100 requests/s'])
    expect(table).toContain(row)
  expect(readFileSync(join(plots, 'e2e-over-rate.svg'), 'utf8')).toContain('other, plain')
  const batch = readFileSync(join(plots, 'batch-over-time.svg'), 'utf8')
  for (const field of ['one, 50 requests/s', 'other, 100 requests/s']) expect(batch).toContain(field)
  const { cells } = JSON.parse(await run('report', one, '--json'))
  const summaries = linesOf(one).filter(({ type }) => type === 'summary')
  expect(cells.map(({ requests_per_s }: { requests_per_s: number }) => requests_per_s)).toEqual(
    summaries.map(({ requests_per_s }) => Number(Number(requests_per_s).toPrecision(6))),
  )
  await expect(run('report', questions)).rejects.toThrow('question.jsonl:1')
})
