/**
 * Reads the trainer's error output line by line: keeps tracebacks and torchrun's own messages from the user, and finds
 * the sentence that says why the trainer ended.
 */
export class TracebackFilter {
  #reason: Reason | undefined
  #inTraceback = false
  #ended = false

  /** The first one: with several processes the others fail because of it. */
  get reason(): Reason | undefined {
    return this.#reason
  }

  /** Takes the next line; says whether the user should see it. */
  shows(text: string): boolean {
    const line = text.replace(/^\[rank\d+\]:\s?/, '')
    if (this.#ended) return false
    if (line.startsWith('Traceback (most recent call last):')) {
      this.#inTraceback = true
      return false
    }
    if (this.#inTraceback) {
      this.#readTraceback(line)
      return false
    }
    if (CHAINED.test(line)) {
      // What follows is the exception that was raised in the end.
      this.#reason = undefined
      return false
    }
    const reason = refusalIn(line)
    this.#reason ??= reason
    return reason === undefined && !TORCHRUN.test(line)
  }

  #readTraceback(line: string): void {
    if (line === '' || /^\s/.test(line)) return
    this.#inTraceback = false
    // torchrun's, which only says that a process has failed.
    if (line.includes('ChildFailedError')) this.#ended = true
    else this.#reason ??= { code: undefined, sentence: sentenceOf(line) }
  }
}

const REFUSALS = [
  ...(['invalid_request', 'broken_checkpoint', 'unsupported_checkpoint'] as const),
  ...(['data_too_small', 'foreign_folder', 'disk_full'] as const),
] as const

export interface Reason {
  /** Of the trainer's own refusals; undefined for an exception that it does not expect. */
  readonly code: (typeof REFUSALS)[number] | undefined
  readonly sentence: string
}

function refusalIn(line: string): Reason | undefined {
  const [, name, sentence = ''] = REFUSAL.exec(line) ?? []
  const code = REFUSALS.find((each) => each === name)
  if (code !== undefined) return { code, sentence }
  const [, usage] = USAGE.exec(line) ?? []
  return usage === undefined ? undefined : { code: undefined, sentence: usage }
}

const REFUSAL = new RegExp(`^(${REFUSALS.join('|')}): (.*)$`)
const USAGE = /^apar_train[\w -]*: error: (.*)$/
const TORCHRUN = /^[EWI]\d{4} .* torch\/distributed\/|^usage: apar_train|^\*+$/
const CHAINED = /^(During handling of the above exception|The above exception was the direct cause)/
const MAX_CHARS = 300

/** `torch.OutOfMemoryError: CUDA out of memory. …` in one sentence. */
function sentenceOf(line: string): string {
  if (/OutOfMemoryError|not enough memory|Cannot allocate memory/.test(line)) {
    const advice = 'try less --pack-tokens, --checkpoint-activations, or --parallel fsdp on more GPUs'
    return `the memory is not enough: ${advice} (apar train sft --estimate shows what is needed)`
  }
  return line.slice(0, MAX_CHARS)
}
