import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { packageRoot } from '../../../gpu-node/package-root.ts'
import { AparError, type ErrorCode } from '../../../shared/errors.ts'
import { readModelText } from '../model/model-text.ts'
import type { Batch, BatchResult, BuildPlan } from './batch.ts'
import { Processor } from './processor.ts'

/** Built by cli/setup/bundle.mjs. */
const WORKER = join(packageRoot, 'dist/data-worker.js')
/** Of a thread: its tokenizer, remembered words and a few batches. */
const MAX_HEAP_MB = 1024
/** Batches that wait for each thread, so that it always has work. */
const AHEAD = 1

export interface WorkerData {
  plan: BuildPlan
  modelFolder: string
}

export type FromWorker =
  | { type: 'done'; result: BatchResult }
  | { type: 'refused'; code: ErrorCode; message: string }

/**
 * Processes batches in order: in this thread when `threads` is 0, else in worker threads.
 * @throws AparError of a record; results of the batches before it come first.
 */
export async function* processed<T extends Batch>(
  batches: AsyncIterable<T>,
  setup: WorkerData,
  threads: number,
): AsyncGenerator<{ batch: T; result: BatchResult }> {
  if (threads === 0) {
    const processor = new Processor(setup.plan, readModelText(setup.modelFolder))
    for await (const batch of batches) yield { batch, result: processor.process(batch) }
    return
  }
  const workers = Array.from({ length: threads }, () => new ProcessorThread(setup))
  const running: { batch: T; result: Promise<BatchResult> }[] = []
  let next = 0
  try {
    for await (const batch of batches) {
      const worker = workers[next++ % threads]
      if (!worker) throw new Error('no threads')
      const result = worker.process(batch)
      // Its error is thrown in its turn.
      result.catch(() => {})
      running.push({ batch, result })
      if (running.length < threads * (1 + AHEAD)) continue
      const first = running.shift()
      if (first) yield { batch: first.batch, result: await first.result }
    }
    for (const { batch, result } of running) yield { batch, result: await result }
  } finally {
    await Promise.all(workers.map((worker) => worker.close()))
  }
}

/** A worker thread with a processor; batches are answered in order. */
class ProcessorThread {
  readonly #worker: Worker
  readonly #waiting: { resolve: (result: BatchResult) => void; reject: (error: unknown) => void }[] = []
  #error: unknown

  constructor(setup: WorkerData) {
    this.#worker = new Worker(WORKER, {
      workerData: setup,
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB, maxYoungGenerationSizeMb: 32 },
    })
    this.#worker.on('message', (message: FromWorker) => {
      const waiting = this.#waiting.shift()
      if (message.type === 'done') waiting?.resolve(message.result)
      else waiting?.reject(new AparError(message.code, message.message))
    })
    const lost = (error: unknown) => {
      this.#error ??= error
      for (const { reject } of this.#waiting.splice(0)) reject(this.#error)
    }
    this.#worker.on('error', lost)
    this.#worker.on('exit', () => lost(new Error('a thread that encodes conversations has ended')))
  }

  process({ bytes, records }: Batch): Promise<BatchResult> {
    if (this.#error !== undefined) return Promise.reject(this.#error)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      const batch: Batch = { bytes, records }
      this.#worker.postMessage(batch, [bytes.buffer])
    })
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }
}
