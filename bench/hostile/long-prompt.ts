import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { percentile } from '../../cli/bench/percentile.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { BenchCase, SampleFile } from '../report.ts'
import { ask, startService } from './service.ts'

/** Default of `--max-step-tokens`. */
const STEP_TOKENS = 512

/** What short prompts wait while a prompt of many steps is computed, and what they cost it. */
export async function longPrompt(quick: boolean, file: SampleFile): Promise<BenchCase[]> {
  const tokens = quick ? 6_000 : 16_000
  const modelDir = demoWithContext(131_072)
  const service = await startService(1, modelDir)
  const [key = ''] = service.keys
  // Each prompt begins differently: none is in the prefix cache.
  const long = (turn: number) => ask(service, key, `${turn} ${'b '.repeat(tokens - 20)}`, 1)
  try {
    await ask(service, key, 'What is a warm-up?', 1)
    // Ms per prompt token.
    const alone: number[] = []
    const mixed: number[] = []
    const waits: number[] = []
    for (let turn = 0; turn < (quick ? 1 : 9); turn++) {
      const first = await long(2 * turn)
      alone.push(lasts(first) / first.promptTokens)
      const begun = long(2 * turn + 1)
      let over = false
      let shortTokens = 0
      void begun.finally(() => {
        over = true
      })
      await sleep(300)
      for (let question = 0; !over && question < 8; question++) {
        const answer = await ask(service, key, `What is a never seen prompt ${turn} ${question}?`, 1)
        waits.push(lasts(answer))
        shortTokens += answer.promptTokens
        file.add({ bench: 'hostile', case: 'long prompt', turn, ms: lasts(answer) })
      }
      const second = await begun
      mixed.push(lasts(second) / (second.promptTokens + shortTokens))
    }
    const [one, both] = [percentile(alone, 50), percentile(mixed, 50)]
    const stepMs = one * STEP_TOKENS
    const value = (number: number) => Number(number.toPrecision(3))
    const name = `a short prompt behind ${tokens} tokens`
    const worst = percentile(waits, 100)
    return [
      {
        case: `${name}, longest time to first token`,
        value: value(worst / stepMs),
        unit: 'steps',
        better: 'lower',
        goal: 4,
      },
      {
        case: `${name}, longest time to first token`,
        value: value(worst),
        unit: 'ms',
        better: 'lower',
        goal: null,
      },
      {
        case: 'the long prompt, throughput of the mix',
        value: value(one / both),
        unit: 'x',
        better: 'higher',
        goal: 0.97,
      },
      { case: 'the long prompt alone', value: value(one * tokens), unit: 'ms', better: 'lower', goal: null },
    ]
  } finally {
    await service.close()
    rmSync(modelDir, { recursive: true, force: true })
  }
}

function lasts({ begunAt, firstAt }: { begunAt: number; firstAt: number }): number {
  return firstAt - begunAt
}

/** A copy of the demo model with a longer context; its texts are nonsense there. */
function demoWithContext(tokens: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'apar-bench-'))
  cpSync(`${packageRoot}/models/demo`, folder, { recursive: true })
  const path = join(folder, 'config.json')
  const config = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(path, JSON.stringify({ ...config, max_position_embeddings: tokens }))
  return folder
}
