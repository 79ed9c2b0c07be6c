import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Template } from '@huggingface/jinja'
import { Tokenizer } from '@huggingface/tokenizers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CHAT_TEMPLATE, turnText } from '../../training/data/chat.ts'
import { newModel } from '../../training/data/model/new-model.ts'
import { toTokenizerJson } from '../../training/data/tokenizer/convert.ts'
import { readSentencePiece } from '../../training/data/tokenizer/sentencepiece.ts'
import { trainTokenizer } from '../../training/data/tokenizer/train.ts'
import { requires } from '../support/requires.ts'

const shipped = readFileSync(new URL('../../models/demo/tokenizer.json', import.meta.url), 'utf8')

function open(tokenizerJson: string) {
  const tokenizer = new Tokenizer(JSON.parse(tokenizerJson), { clean_up_tokenization_spaces: false })
  const id = (token: string) => tokenizer.token_to_id(token) ?? Number.NaN
  return {
    ...{ bos: id('<s>'), eos: id('</s>'), fork: id('[Fork]'), child: id('[Child]') },
    vocabSize: tokenizer.get_vocab().size,
    encode: (text: string): number[] => tokenizer.encode(text, { add_special_tokens: false }).ids,
    decode: (ids: number[]): string => tokenizer.decode(ids, { skip_special_tokens: false }),
  }
}

describe('the shipped tokenizer', () => {
  const encoder = open(shipped)

  it('has 4,096 ids, with [Fork], [Child], <s> and </s> as one id each', () => {
    expect(encoder.vocabSize).toBe(4096)
    expect(encoder.encode('[Fork][Child]')).toEqual([encoder.fork, encoder.child])
    expect(encoder.encode('<s>hi</s>').at(0)).toBe(encoder.bos)
    expect(encoder.encode('<s>hi</s>').at(-1)).toBe(encoder.eos)
  })

  it('decodes any encoded text unchanged, including white space and rare characters', () => {
    const text = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
      .filter((t) => !/[▁\ud800-\udfff]/.test(t))
    fc.assert(
      fc.property(text, (t) => {
        expect(encoder.decode(encoder.encode(t))).toBe(t)
      }),
      { numRuns: 500 },
    )
    for (const t of [' a', 'a ', '  \n\n b', 'naïve 🙂 ‱', '1. Title: `tar --create`\n2. Next:']) {
      expect(encoder.decode(encoder.encode(t))).toBe(t)
    }
  })

  it("encodes the space after an item's number as a separate piece", () => {
    const item = encoder.encode('\n2. List files')
    expect(item).toEqual([...encoder.encode('\n2.'), ...encoder.encode(' '), ...encoder.encode('List files')])
  })

  it('encodes text beside a [Fork] as it encodes the text alone', () => {
    const both = encoder.encode('1. Title:[Fork]\n2. Next:')
    expect(both).toEqual([...encoder.encode('1. Title:'), encoder.fork, ...encoder.encode('\n2. Next:')])
  })
})

describe('chat template', () => {
  const render = (messages: { role: string; content: string }[], add_generation_prompt: boolean) =>
    new Template(CHAT_TEMPLATE).render({
      messages,
      add_generation_prompt,
      bos_token: '<s>',
      eos_token: '</s>',
    })

  it('renders the text that a tokenizer is trained on', () => {
    const messages = [
      { role: 'user', content: 'How?' },
      { role: 'assistant', content: 'So.' },
    ]
    expect(render(messages.slice(0, 1), true)).toBe(`<s>${turnText('How?', '')}`)
    expect(render(messages, false)).toBe(`<s>${turnText('How?', 'So.')}</s>`)
  })

  it('equals the template shipped with the demo model', () => {
    const config = readFileSync(new URL('../../models/demo/tokenizer_config.json', import.meta.url), 'utf8')
    expect(JSON.parse(config).chat_template).toBe(CHAT_TEMPLATE)
  })
})

describe('conversion', () => {
  it('refuses invalid SentencePiece models, and models that change white space', () => {
    expect(() => readSentencePiece(new TextEncoder().encode('hello'))).toThrow(/not a SentencePiece model/)
    const model = {
      pieces: [],
      bpe: true,
      byteFallback: true,
      addDummyPrefix: true,
      removeExtraWhitespaces: false,
    }
    expect(() => toTokenizerJson(model, [])).toThrow(/add_dummy_prefix/)
    expect(() => newModel('{}', 'my.json', 512)).toThrow('my.json is not a tokenizer.json')
  })

  const found = requires(
    'spm_train (Debian package sentencepiece)',
    () => !spawnSync('spm_train', ['--help']).error,
  )

  it.skipIf(!found)('trains a tokenizer that decodes its text unchanged', async () => {
    const texts = Array.from(
      { length: 200 },
      (_, i) => `Line ${i}: the quick brown fox, number ${i * 7}, jumps.`,
    )
    const encoder = open(await trainTokenizer({ texts, vocabSize: 340, added: ['[Fork]', '[Child]'] }))
    expect(encoder.vocabSize).toBe(340)
    expect([encoder.fork, encoder.child]).toEqual([338, 339])
    expect(encoder.decode(encoder.encode(texts[3] ?? ''))).toBe(texts[3])
    expect(encoder.encode(texts[3] ?? '').length).toBeLessThan(30)
    expect(encoder.decode(encoder.encode('  ünseen\n'))).toBe('  ünseen\n')
    const item = encoder.encode('\n2. the fox')
    expect(item).toEqual([...encoder.encode('\n2.'), ...encoder.encode(' '), ...encoder.encode('the fox')])
  })

  it.skipIf(!found)('reports the error of spm_train', async () => {
    await expect(trainTokenizer({ texts: ['abc'], vocabSize: 5000, added: [] })).rejects.toThrow(
      /spm_train failed: .+/,
    )
  })
})
