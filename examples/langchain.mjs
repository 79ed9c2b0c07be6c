// An answer by LangChain: npm install @langchain/openai @langchain/core, then
// APAR_API_KEY=apar_… node langchain.mjs "How do I use tar?"
import { StringOutputParser } from '@langchain/core/output_parsers'
import { ChatPromptTemplate } from '@langchain/core/prompts'
import { ChatOpenAI } from '@langchain/openai'

const { APAR_URL = 'http://127.0.0.1:8787', APAR_API_KEY, APAR_MODEL = 'demo' } = process.env
const [question = 'How do I use tar?'] = process.argv.slice(2)

const model = new ChatOpenAI({
  model: APAR_MODEL,
  apiKey: APAR_API_KEY,
  configuration: { baseURL: `${APAR_URL}/v1` },
  maxTokens: 300,
  // What OpenAI's API has no field for: at most 8 branches at a time.
  modelKwargs: { apar: { max_branches: 8 } },
})
const prompt = ChatPromptTemplate.fromMessages([['human', '{question}']])
const chain = prompt.pipe(model).pipe(new StringOutputParser())
for await (const text of await chain.stream({ question })) process.stdout.write(text)
console.log()
