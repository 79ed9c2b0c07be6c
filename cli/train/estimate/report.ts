import Table from 'cli-table3'
import { PLAIN_TABLE, showBinaryBytes, showCount, showTable } from '../../models/show.ts'
import type { Estimate, EstimateRow, Variant } from './estimate.ts'

/** An estimate as a table: a line for each way to train, with its memory on one device and its speed. */
export function estimateReport({ parameters, loraParameters, loraRank, runTokens, rows }: Estimate): string {
  const table = new Table({
    ...PLAIN_TABLE,
    head: ['trains', 'on', 'weights', 'gradients', 'optimizer', 'activations', 'ckpt.', 'memory', 'ckpt.']
      .concat(['tokens/s', 'ckpt.'])
      .concat(runTokens === undefined ? [] : ['time', 'ckpt.']),
    colAligns: ['left', 'left', ...new Array<'right'>(11).fill('right')],
  })
  for (const row of rows) table.push(cells(row, runTokens !== undefined))
  const lora = `LoRA of rank ${loraRank} trains ${showCount(loraParameters)} of them`
  const lines = [
    `${showCount(parameters)} parameters; ${lora}${runTokens === undefined ? '' : `; ${showCount(runTokens)} tokens in the run`}`,
    'memory of one process; ckpt.: with --checkpoint-activations; *: more than the device has',
  ]
  return `${lines.join('\n')}\n\n${showTable(table)}`
}

function cells(
  { trains, device, layout, processes, plain, checkpointed }: EstimateRow,
  timed: boolean,
): string[] {
  const where = device === 'cpu' ? 'this CPU' : showLayout(layout, processes)
  const { weights, gradients, optimizer } = plain.memory
  const both = (show: (variant: Variant) => string) => [show(plain), show(checkpointed)]
  return [
    trains,
    where,
    ...[weights, gradients, optimizer].map(showBinaryBytes),
    ...both(({ memory }) => showBinaryBytes(memory.activations)),
    ...both(({ memory, fits }) => `${showBinaryBytes(memory.total)}${fits ? '' : ' *'}`),
    ...both(({ tokensPerSecond }) => (tokensPerSecond === undefined ? '?' : showCount(tokensPerSecond))),
    ...(timed ? both(({ hours }) => showHours(hours)) : []),
  ]
}

export function showLayout(layout: EstimateRow['layout'], processes: number): string {
  if (layout === 'one') return '1 GPU'
  return `${processes} GPUs, ${layout === 'ddp' ? 'DDP' : 'FSDP2'}`
}

export function showHours(hours: number | undefined): string {
  if (hours === undefined) return '?'
  if (hours < 1) return `${Math.max(1, Math.round(hours * 60))} min`
  return hours < 100 ? `${hours.toFixed(1)} h` : `${Math.round(hours / 24)} days`
}
