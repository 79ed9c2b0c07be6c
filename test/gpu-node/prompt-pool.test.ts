import { getEventListeners } from 'node:events'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { PromptEncoder } from '../../gpu-node/text/prompt-encoder.ts'
import { PromptPool } from '../../gpu-node/text/prompt-pool.ts'
import { PromptProcess } from '../../gpu-node/text/prompt-process.ts'
import { type Json, TEMPLATE, tinyTokenizer, VOCAB_SIZE } from '../support/tiny-checkpoint.ts'

const LIMIT = 10_000_000
const user = (content: string) => ({ messages: [{ role: 'user' as const, content }] })

function filesOf(source: string, tokenizer: Json = tinyTokenizer()) {
  const chatTemplate = { source, file: '/model/chat.jinja' }
  return {
    tokenizer: tokenizer as never,
    file: 'tokenizer.json',
    chatTemplate,
    rawPrefix: '<s>',
    named: { bos_token: '<s>', eos_token: '</s>' },
  }
}

const pools: PromptPool[] = []
async function open(source = TEMPLATE, tokenizer?: Json): Promise<PromptPool> {
  const pool = await PromptPool.open({
    files: filesOf(source, tokenizer),
    controlIds: [],
    vocabSize: VOCAB_SIZE,
  })
  pools.push(pool)
  return pool
}

/** With both processes loaded, so that prompts are encoded from now on in the order of the queue. */
async function openBoth(): Promise<PromptPool> {
  const pool = await open()
  await pool.encode(user('long '.repeat(2_000)), LIMIT)
  return pool
}
afterEach(async () => {
  vi.useRealTimers()
  await Promise.all(pools.splice(0).map((pool) => pool.close()))
})

/** The signal of a request that its client has given up. */
function aborter() {
  const controller = new AbortController()
  return { signal: controller.signal, abort: () => controller.abort() }
}

const settled = () => new Promise(setImmediate)

describe('prompts', () => {
  test('are encoded as in this process, short and long', async () => {
    const pool = await open()
    const encoder = new PromptEncoder(filesOf(TEMPLATE))
    for (const content of ['hi', '[Fork] '.repeat(10_000), '\ud800'])
      expect(await pool.encode(user(content), LIMIT)).toEqual(encoder.encodePrompt(user(content), LIMIT))
    const raw = { ...user('a</s>'), raw_prompt: true }
    expect(await pool.encode(raw, LIMIT)).toEqual(encoder.encodePrompt(raw, LIMIT))
  })

  test('are refused with the code, the field and the reason', async () => {
    const pool = await open("{{ raise_exception('no') if messages | length > 1 }}{{ messages[0].content }}")
    await expect(pool.encode(user('too long'), 3)).rejects.toMatchObject({
      code: 'context_length_exceeded',
      param: 'messages',
    })
    const two = { messages: [...user('a').messages, ...user('b').messages] }
    await expect(pool.encode(two, LIMIT)).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'messages',
      message: 'messages: no',
    })
  })

  test('wait behind shorter ones, but a short one waits for none of the long ones', async () => {
    const pool = await openBoth()
    const ended: string[] = []
    const encode = (name: string, length: number) =>
      pool.encode(user('x'.repeat(length)), LIMIT).then(() => ended.push(name))
    const first = encode('first', 900_000)
    await settled()
    await Promise.all([first, encode('long', 900_000), encode('medium', 20_000), encode('short', 10)])
    expect(ended).toEqual(['short', 'first', 'medium', 'long'])
  })

  test('are not kept waiting by a long conversation whose text is asked for', async () => {
    const pool = await openBoth()
    const ended: string[] = []
    const { messages } = user('x'.repeat(900_000))
    const text = pool.answer({ ask: 'render', model: 'm', messages }).then(() => ended.push('text'))
    await settled()
    await Promise.all([text, pool.encode(user('hi'), LIMIT).then(() => ended.push('short'))])
    expect(ended).toEqual(['short', 'text'])
  })

  test('that nobody waits for any more leave the queue, or the process', async () => {
    const pool = await openBoth()
    const running = aborter()
    const waiting = aborter()
    const first = pool.encode(user('x'.repeat(900_000)), LIMIT, { signal: running.signal })
    const second = pool.encode(user('y'.repeat(900_000)), LIMIT, { signal: waiting.signal })
    waiting.abort()
    await expect(second).rejects.toMatchObject({ code: 'connection_closed' })
    running.abort()
    await expect(first).rejects.toMatchObject({ code: 'connection_closed' })
    const before = aborter()
    before.abort()
    await expect(pool.encode(user('z'), LIMIT, { signal: before.signal })).rejects.toMatchObject({
      code: 'connection_closed',
    })
    expect(await pool.encode(user('z'.repeat(20_000)), LIMIT)).toHaveLength(20_010)
  })

  test('are refused when too much text waits already', async () => {
    const pool = await openBoth()
    const given = aborter()
    const large = user('x'.repeat(2_200_000))
    const first = pool.encode(large, LIMIT, { signal: given.signal })
    await expect(pool.encode(large, LIMIT)).rejects.toMatchObject({ code: 'overloaded' })
    expect(await pool.encode(user('hi'), LIMIT)).toHaveLength(12)
    given.abort()
    await expect(first).rejects.toMatchObject({ code: 'connection_closed' })
  })

  test('of one key keep no other key out, and those of others come before its next', async () => {
    const pool = await openBoth()
    const ended: string[] = []
    const { signal, abort } = aborter()
    const encode = (tenant: string, units: number) =>
      pool.encode(user('x'.repeat(units)), LIMIT, { tenant, signal }).then(() => ended.push(tenant))
    const all = Array.from({ length: 5 }, () => encode('many', 800_000))
    await expect(encode('many', 800_000)).rejects.toMatchObject({ code: 'overloaded' })
    const others = [encode('long', 810_000), encode('few', 20_000), encode('few', 20_000)]
    expect(pool.waiting).toBe(8)
    await Promise.all([all[0], ...others])
    expect(ended).toEqual(['many', 'few', 'long', 'few'])
    abort()
    await Promise.allSettled(all)
    expect(pool.waiting).toBe(0)
  })

  test('are refused when those before them take too long, before the edge gives the node up', async () => {
    const pool = await openBoth()
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const first = pool.encode(user('x'.repeat(1_500_000)), LIMIT)
    const second = pool.encode(user('x'.repeat(1_500_000)), LIMIT)
    const refused = expect(second).rejects.toMatchObject({ code: 'overloaded' })
    await settled()
    vi.advanceTimersByTime(20_000)
    await refused
    const failed = expect(first).rejects.toMatchObject({ code: 'request_timeout' })
    vi.advanceTimersByTime(5_000)
    await failed
  })

  test('leave no listener at the signal of their request', async () => {
    const pool = await open()
    const { signal } = aborter()
    await pool.encode(user('hi'), LIMIT, { signal })
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  test('that do not come to an end fail alone: their process is replaced', async () => {
    const loops =
      "{% if 'loop' in messages[0].content %}{% for i in range(100000) %}{% for j in range(100000) %}" +
      '{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}'
    const pool = await open(loops)
    const stuck = pool.encode(user('loop'), LIMIT)
    const behind = pool.encode(user('hi'), LIMIT)
    await expect(stuck).rejects.toMatchObject({ code: 'request_timeout', param: 'messages' })
    expect(await behind).toHaveLength(2)
  })

  test('that exhaust what a string may hold fail alone', async () => {
    const grows =
      "{% set ns = namespace(x=messages[0].content) %}{% if 'grow' in ns.x %}{% for i in range(40) %}" +
      '{% set ns.x = ns.x ~ ns.x %}{% endfor %}{% endif %}{{ ns.x }}'
    const pool = await open(grows)
    await expect(pool.encode(user('grow'), LIMIT)).rejects.toMatchObject({ code: 'invalid_request' })
    expect(await pool.encode(user('hi'), LIMIT)).toHaveLength(2)
  })

  test('that exhaust the memory of their process fail alone', async () => {
    const grows =
      "{% if 'grow' in messages[0].content %}{% set ns = namespace(a=[]) %}{% for i in range(2000) %}" +
      "{% set ns.a = ns.a + [('ж' ~ i) | indent(8000000, true) | upper] %}{% endfor %}{% endif %}{{ messages[0].content }}"
    const pool = await open(grows)
    await expect(pool.encode(user('grow'), LIMIT)).rejects.toMatchObject({
      // Whichever comes first.
      code: expect.stringMatching(/^(invalid_request|request_timeout)$/),
      message: expect.stringMatching(/too much memory|could not be encoded within/),
    })
    expect(await pool.encode(user('hi'), LIMIT)).toHaveLength(2)
  })

  test('are refused at once when the pool is closed before their process has them', async () => {
    const pool = await open()
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const refused = expect(pool.encode(user('hi'), LIMIT)).rejects.toMatchObject({ code: 'overloaded' })
    await Promise.all([pool.close(), refused])
  })

  test('of a closed pool are refused', async () => {
    const pool = await open()
    const running = pool.encode(user('x'.repeat(900_000)), LIMIT)
    const refused = expect(running).rejects.toMatchObject({ code: 'overloaded' })
    await pool.close()
    await refused
  })
})

describe('at the start', () => {
  test('the process for long prompts is loaded when it is asked for', async () => {
    const load = vi.spyOn(PromptProcess.prototype, 'load')
    const pool = await open()
    expect(load).toHaveBeenCalledTimes(1)
    pool.loadRest()
    expect(load).toHaveBeenCalledTimes(2)
    expect((await pool.encode(user('long '.repeat(10_000)), LIMIT)).length).toBeGreaterThan(10_000)
    load.mockRestore()
  })

  test('a tokenizer whose tokens have no known bytes is refused, and its process fails unnoticed', async () => {
    const unhandled: unknown[] = []
    const note = (why: unknown) => unhandled.push(why)
    process.on('unhandledRejection', note)
    await expect(open(TEMPLATE, { ...tinyTokenizer(), decoder: null })).rejects.toMatchObject({
      code: 'unsupported_checkpoint',
      message: 'tokenizer.json: decoder: none is not supported',
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })

  test('a template without end is refused, with its file', async () => {
    const loops = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}'
    await expect(open(loops)).rejects.toMatchObject({
      code: 'unsupported_checkpoint',
      message: '/model/chat.jinja: chat_template: a short chat takes more than 5 s',
    })
  })

  test.each([
    ['{% for i in range(1000000000) %}{% endfor %}', 'range() of more than 1000000 values'],
    ['{% for i in range(0, -1, -0.000000001) %}{% endfor %}', 'range() of more than 1000000 values'],
    ["{% for i in range('0', '9') %}{% endfor %}", 'range() takes numbers'],
    ["{{ 'x' | indent(500000000, true) }}", 'a text of more than 8388608 characters'],
    [
      '{% set ns = namespace(a=[1]) %}{% for i in range(40) %}{% set ns.a = ns.a + ns.a %}{% endfor %}',
      'a list of more than 4194304 values',
    ],
  ])('a template with values beyond all bounds is refused, with its file: %s', async (source, reason) => {
    await expect(open(source)).rejects.toMatchObject({
      code: 'broken_checkpoint',
      message: `/model/chat.jinja: chat_template: refuses every chat: ${reason}`,
    })
  })

  test.each(['(a+)+$', '(?:\\p{L}+\\s?)*!', '(?:ab|ab)*c'])(
    'a pattern that backtracks without end is refused, with its file: %s',
    async (Regex) => {
      const pre_tokenizer = { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }
      const tokenizer = {
        ...tinyTokenizer(),
        pre_tokenizer: { type: 'Sequence', pretokenizers: [pre_tokenizer] },
      }
      await expect(open(TEMPLATE, tokenizer)).rejects.toMatchObject({
        code: 'unsupported_checkpoint',
        message: expect.stringMatching(
          /^tokenizer\.json: pre_tokenizer: the pattern ".+ on a long run of .* takes more than/,
        ),
      })
    },
  )

  test.each([
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    '(?<=[0-9]\\.)▁|▁*[^▁]+|▁+',
  ])('a pattern of a published model is accepted: %s', async (Regex) => {
    const pre_tokenizer = { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false }
    const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false }
    const pretokenizers = [pre_tokenizer, bytes]
    const pool = await open(TEMPLATE, {
      ...tinyTokenizer(),
      pre_tokenizer: { type: 'Sequence', pretokenizers },
    })
    expect(await pool.encode(user('hi'), LIMIT)).toHaveLength(12)
  })
})
