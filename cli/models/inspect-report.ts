import Table from 'cli-table3'
import { BLOCK_TOKENS } from '../../gpu-node/engine/engine-config.ts'
import type { MemoryPlan } from '../../gpu-node/engine/memory-plan.ts'
import { printable } from '../chat/branch-lines.ts'
import type { DTypeMemory, Inspection, Token } from './inspect.ts'
import { PLAIN_TABLE, showBinaryBytes, showBytes, showCount, showTable } from './show.ts'

const MAX_PROMPT_LINES = 12
const MAX_TOKENS = 8

/** An inspection as a text of some twenty lines. Texts of the checkpoint cannot control the terminal. */
export function inspectionReport(inspection: Inspection): string {
  const { path, architecture, parameters, bytes, shape, tokens, warnings } = inspection
  const heads = `${shape.numHeads} heads of ${shape.headDim}, ${shape.numKvHeads} for keys and values`
  const facts = [
    ['model', path],
    [
      'architecture',
      `${architecture}: ${shape.numLayers} layers, hidden size ${shape.hiddenSize}, MLP ${shape.intermediateSize}, ${heads}`,
    ],
    ['parameters', `${showCount(parameters)} in ${showBytes(bytes)}`],
    [
      'formats',
      inspection.formats
        .map(
          ({ dtype, tensors, bytes }) =>
            `${dtype} ${showBytes(bytes)} (${tensors} ${tensors === 1 ? 'tensor' : 'tensors'})`,
        )
        .join(', '),
    ],
    ['context', `${shape.contextTokens} tokens`],
    [
      'vocabulary',
      `${tokens.vocabulary} tokens; begin ${showToken(tokens.bos)}, end ${showTokens(tokens.eos)}`,
    ],
    ['branching', branching(inspection)],
    ['Medusa', inspection.medusa?.description ?? 'no heads'],
    ['digest', inspection.digest],
  ]
  const blocks = [facts.map(([name = '', value = '']) => `${name.padEnd(14)}${printable(value)}`).join('\n')]
  blocks.push(promptOf(inspection), memoryTable(inspection.memory))
  if (warnings.length > 0) blocks.push(warnings.map((warning) => `warning: ${printable(warning)}`).join('\n'))
  return blocks.filter((block) => block !== '').join('\n\n')
}

function branching({ branching: kind, tokens }: Inspection): string {
  if (kind === 'serial') return 'decodes serially: there are no fork and child tokens'
  return `forks: fork ${showToken(tokens.fork)}, child ${showToken(tokens.child)}`
}

function showToken(token: Token | undefined): string {
  if (!token) return 'none'
  return token.text === undefined ? String(token.id) : `${JSON.stringify(token.text)} (${token.id})`
}

function showTokens(tokens: readonly Token[]): string {
  const shown = tokens.slice(0, MAX_TOKENS).map(showToken)
  const more = tokens.length > MAX_TOKENS ? [`and ${tokens.length - MAX_TOKENS} more`] : []
  return [...shown, ...more].join(' ')
}

function promptOf({ template }: Inspection): string {
  if (!template) return ''
  const lines = printable(template.prompt).split('\n')
  const shown = lines.slice(0, MAX_PROMPT_LINES).map((line) => `  | ${line.slice(0, 100)}`)
  const more = lines.length > MAX_PROMPT_LINES ? [`  ... ${lines.length - MAX_PROMPT_LINES} more lines`] : []
  return [`the question "Hello!" in its chat template, ${template.tokens} tokens:`, ...shown, ...more].join(
    '\n',
  )
}

function memoryTable(memory: readonly DTypeMemory[]): string {
  if (memory.length === 0) return ''
  const table = new Table({
    ...PLAIN_TABLE,
    head: ['--dtype', 'weights', 'KV per 1,000 tokens', 'on this machine'],
    colAligns: ['left', 'right', 'right', 'left'],
  })
  for (const { dtype, isDefault, plan, kvBytesPer1000Tokens = 0, fits, problem } of memory) {
    const name = isDefault ? `${dtype} (default)` : dtype
    if (plan) {
      const verdict = fits ? `fits: ${room(plan)}` : `does not fit: needs ${showBinaryBytes(needed(plan))}`
      table.push([name, showBinaryBytes(plan.weightBytes), showBinaryBytes(kvBytesPer1000Tokens), verdict])
    } else table.push([name, '', '', short(problem ?? '')])
  }
  const free = memory.find(({ plan }) => plan !== undefined)?.plan
  const where = free
    ? `memory on this machine (${free.device}): ${showBinaryBytes(free.freeBytes)} free (${free.freeSource}), ${showBinaryBytes(free.keptFreeBytes)} of them stay free`
    : 'memory'
  return `${where}\n${showTable(table)}`
}

function room({ contextTokens, modelContextTokens, numBlocks }: MemoryPlan): string {
  if (contextTokens < modelContextTokens) return `requests of up to ${contextTokens} tokens`
  return `room for ${showCount(numBlocks * BLOCK_TOKENS)} tokens`
}

function needed({ weightBytes, workspaceBytes, kvBytes }: MemoryPlan): number {
  return weightBytes + workspaceBytes + kvBytes
}

/** The engine's reason without what all reasons begin and end with. */
function short(problem: string): string {
  return problem.replace(/^the engine cannot start: /, '').replace(/ \(\w+\)$/, '')
}
