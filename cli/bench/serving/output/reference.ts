import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type CellSettings, labelOf, type Sample } from '../load/sample.ts'
import { engineLog } from './engine-log.ts'
import { NO_OUTPUT, type Output } from './output.ts'

/** A request as vllm/test_serving.py of THUDM/APAR writes it. Times are in seconds, since the engine accepted it. */
export interface ReferenceResponse {
  readonly prompt: string
  readonly text: string
  /** To the end of the last step; null for a request that no step was made for. */
  readonly elapse: number | null
  /** Those of the prompt and of all branches. */
  readonly total_tokens: number
  readonly prompt_tokens: number
  /** The end of each step. */
  readonly ticks: readonly number[] | null
}

export interface ReferenceNames {
  readonly model: string
  /** The file of prompts, or the name of the data set. */
  readonly prompts: string
}

/**
 * Results and engine log as the reference's, by the names of its files: two for each measurement, below a folder for
 * each cell, because a run of the reference is one of them.
 */
export function referenceFiles(folder: string, { model, prompts }: ReferenceNames): Output {
  mkdirSync(folder, { recursive: true })
  return {
    ...NO_OUTPUT,
    round: (cell, _, { began, samples, readings }) => {
      const below = join(folder, folderOf(cell))
      mkdirSync(below, { recursive: true })
      const suffix = `model_${basename(model)}_prompt_${basename(prompts)}_time_${timeOf(began)}`
      const responses = samples.map(referenceResponse)
      writeFileSync(join(below, `responses_${suffix}.json`), JSON.stringify(responses, null, 4))
      const log = engineLog(readings).map((line) => `${JSON.stringify(line)}\n`)
      writeFileSync(join(below, `engine_log_${suffix}.jsonl`), log.join(''))
    },
  }
}

export function referenceResponse(sample: Sample): ReferenceResponse {
  const { prompt, text, output_tokens, steps_ms } = sample
  const ticks = steps_ms?.map((ms) => ms / 1000) ?? null
  const prompt_tokens = sample.prompt_tokens ?? 0
  return {
    ...{ prompt, text, elapse: ticks?.at(-1) ?? null },
    ...{ total_tokens: prompt_tokens + output_tokens, prompt_tokens, ticks },
  }
}

/** `parallel-blocks-500-8-in-flight` */
function folderOf(cell: CellSettings): string {
  return labelOf(cell).replaceAll(/[^\w.]+/g, '-')
}

/** Local time as Python's str(datetime.now()) has it, with a hyphen for the space. */
function timeOf(date: Date): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-')
  const time = [two(date.getHours()), two(date.getMinutes()), two(date.getSeconds())].join(':')
  return `${day}-${time}.${String(date.getMilliseconds()).padStart(3, '0')}000`
}
