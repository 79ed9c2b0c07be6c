// node-llama-cpp's own API, asked for figures by the bench: one command a line, one JSON object a line back (driver.cpp has the
// same habit). Plain JavaScript beside its own node_modules: the package is no dependency of apar.
//   load PATH THREADS
//   decode EACH ID...     EACH tokens, from the call to the last one    -> {"tokens", "seconds"}
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
    // A random model's end token is no end.
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
