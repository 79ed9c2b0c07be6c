// An answer by the AI SDK: npm install ai apar-ai-sdk, then APAR_API_KEY=apar_… node ai-sdk.mjs "How do I use tar?"
import { streamText } from 'ai'
import { createApar } from 'apar-ai-sdk'

const { APAR_URL = 'http://127.0.0.1:8787', APAR_MODEL = 'demo' } = process.env
const [prompt = 'How do I use tar?'] = process.argv.slice(2)

const apar = createApar({ baseURL: `${APAR_URL}/v1` })
const answer = streamText({
  model: apar(APAR_MODEL),
  prompt,
  maxOutputTokens: 300,
  providerOptions: { apar: { maxBranches: 8 } },
})
for await (const text of answer.textStream) process.stdout.write(text)

const { branches } = (await answer.providerMetadata).apar
const { outputTokens } = await answer.usage
console.log(`\n\n${outputTokens} tokens in ${branches.length} branches`)
