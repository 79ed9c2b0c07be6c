// Runs benchmark commands on node-llama-cpp's API: one command per input line, one JSON object per output line,
// as driver.cpp does. Plain JavaScript with its own node_modules, because the package is not a dependency of
// apar.
//   load PATH THREADS
//   decode EACH ID...     EACH tokens, timed from the call to the last one    -> {"tokens", "seconds"}
import { createInterface } from 'node:readline'
import { getLlama, LlamaLogLevel } from 'node-llama-cpp'

let sequence

const commands = {
  async load([path, threads]) {
    const begun = performance.now()
    const options = { gpu: false, build: 'never', maxThreads: Number(threads), logLevel: LlamaLogLevel.error }
    const llama = await getLlama(options)
    const model = await llama.loadModel({ modelPath: path })
    const context = await model.createContext({ contextSize: 2048, threads: Number(threads) })
    sequence = context.getSequence()
    return { tokens: 0, seconds: (performance.now() - begun) / 1000 }
  },

  async decode([each, ...ids]) {
    await sequence.clearHistory()
    const wanted = Number(each)
    let tokens = 0
    const begun = performance.now()
    // Continue after an end token, which a random model may generate at any time.
    for await (const _ of sequence.evaluate(ids.map(Number), { temperature: 0, yieldEogToken: true })) {
      if (++tokens === wanted) break
    }
    return { tokens, seconds: (performance.now() - begun) / 1000 }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(' ')
  const answer = await commands[name](words).catch((error) => ({ error: String(error?.message ?? error) }))
  console.log(JSON.stringify(answer))
}
process.exit(0)
