// Runs in a worker thread (pool.ts): one batch of records at a time.
import { parentPort, workerData } from 'node:worker_threads'
import { AparError } from '../../../shared/errors.ts'
import { readModelText } from '../model/model-text.ts'
import type { Batch, BatchResult } from './batch.ts'
import type { FromWorker, WorkerData } from './pool.ts'
import { Processor } from './processor.ts'

const { plan, modelFolder }: WorkerData = workerData
const processor = new Processor(plan, readModelText(modelFolder))

parentPort?.on('message', (batch: Batch) => {
  try {
    const result = processor.process(batch)
    send({ type: 'done', result }, buffersOf(result))
  } catch (error) {
    // A bug ends the thread, with its stack in the error that the main thread gets.
    if (!(error instanceof AparError)) throw error
    send({ type: 'refused', code: error.code, message: error.message })
  }
})

function buffersOf({ files, splits }: BatchResult): ArrayBuffer[] {
  const split = Object.values(splits).flatMap(({ tokens, learned, segments, examples }) => [
    ...[tokens.buffer, learned.buffer, segments.buffer, examples.buffer],
  ])
  return [...Object.values(files).map((bytes) => bytes.buffer), ...split]
}

function send(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer)
}
