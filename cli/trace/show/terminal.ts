import { setTimeout as sleep } from 'node:timers/promises'
import { branchLines, printable } from '../../chat/branch-lines.ts'
import { LiveBlock, type Terminal } from '../../chat/screen.ts'
import { flat } from '../../token-tree/visible.ts'
import { Replay } from '../replay.ts'
import type { TracedTurn, TraceOfQuestion } from '../trace-file.ts'

/** Time between two pictures, in ms. */
const FRAME_MS = 40

export interface ReplayOptions {
  /** Of the trace's time: 2 is twice as fast; undefined shows only the end. */
  readonly speed: number | undefined
  readonly signal: AbortSignal
}

/** Shows the branches of each turn as they grew, then the answer in document order and its figures. */
export async function replayInTerminal(
  { head, turns, refused }: TraceOfQuestion,
  out: Terminal,
  { speed, signal }: ReplayOptions,
): Promise<void> {
  for (const turn of turns) {
    const { begin, end } = turn
    out.write(`${head.mode}, turn ${begin.turn}: ${flat(begin.prompt)}\n\n`)
    if (speed !== undefined) await replay(turn, out, speed, signal)
    out.write(`${printable(end.text)}\n\n(${figures(turn)})\n\n`)
    if (signal.aborted) return
  }
  if (refused) out.write(`turn ${refused.turn} was refused: ${flat(refused.message)}\n`)
}

async function replay({ begin, steps }: TracedTurn, out: Terminal, speed: number, signal: AbortSignal) {
  const block = new LiveBlock(out)
  const growing = new Replay(begin.joints)
  const started = performance.now()
  let next = 0
  try {
    while (next < steps.length && !signal.aborted) {
      const us = (performance.now() - started) * speed * 1000
      for (let step = steps[next]; step && step.us <= us; step = steps[next]) {
        growing.advance(step)
        next++
      }
      const step = steps[next - 1]
      const lines = branchLines(growing.tree, out.columns || 80, (out.rows || 24) - 4)
      block.draw([...lines, '', step ? stepLine(step.us, step) : 'the prompt is computed'])
      await sleep(FRAME_MS)
    }
  } finally {
    block.clear()
  }
}

type StepFigures = TracedTurn['steps'][number]

function stepLine(us: number, { step, live, rows, batch_rows, blocks, attended }: StepFigures): string {
  const time = `${(us / 1000).toFixed(0)} ms, step ${step}`
  return `${time}: ${live} live, ${rows} of ${batch_rows} rows, ${blocks} KV blocks, ${attended} tokens attended to`
}

function figures({ steps, end }: TracedTurn): string {
  const sampling = steps.filter(({ sampled }) => sampled > 0).length
  const tokens = end.usage.completion_tokens
  const branches = end.usage.branches.length
  const ms = ((steps.at(-1)?.us ?? 0) / 1000).toFixed(0)
  const perStep = sampling === 0 ? '–' : (tokens / sampling).toFixed(2)
  return `${tokens} tokens in ${sampling} steps, ${perStep} a step, ${branches} branches, ${ms} ms, ended by ${end.reason}`
}
