// An answer by OpenAI's client: npm install openai, then APAR_API_KEY=apar_… node openai-node.mjs "How do I use tar?"
import OpenAI from 'openai'

const { APAR_URL = 'http://127.0.0.1:8787', APAR_API_KEY, APAR_MODEL = 'demo' } = process.env
const [prompt = 'How do I use tar?'] = process.argv.slice(2)

const openai = new OpenAI({ baseURL: `${APAR_URL}/v1`, apiKey: APAR_API_KEY })
const stream = await openai.chat.completions.create({
  model: APAR_MODEL,
  messages: [{ role: 'user', content: prompt }],
  max_tokens: 300,
  stream: true,
  stream_options: { include_usage: true },
  // What OpenAI's API has no field for: at most 8 branches at a time.
  apar: { max_branches: 8 },
})
for await (const { choices, usage } of stream) {
  process.stdout.write(choices[0]?.delta.content ?? '')
  if (usage) console.log(`\n\n${usage.completion_tokens} tokens`)
}
