import { readFileSync } from 'node:fs'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { xorshift } from './random-weights.ts'

/** Prose and programs of this project. */
const FILES = [
  'README.md',
  'docs/security.md',
  'CHANGELOG.md',
  'gpu-node/main.ts',
  'native/core/sampler.cpp',
  'training/torch/pyproject.toml',
  'package.json',
]
/** What tokenizers split in different ways: numbers, spaces, scripts, marks, emoji, markup, broken English. */
const PARTS = [
  ...[
    '12345',
    '3.14159',
    '1,000,000',
    '2026-11-29T23:40',
    '0x7fff',
    '½',
    '٣٤٥',
    'Ⅷ',
    "don't",
    "I'LL",
    "we've",
    'x²',
  ],
  ...[' ', '  ', '\n', '\n\n', '\t', ' \n', '\r\n', '\u00a0', '\u3000', '\u200b', '        '],
  ...[
    'naïve',
    'Straße',
    'ΑΒΓ',
    'Привет',
    'שלום',
    'مرحبا',
    'नमस्ते',
    '你好，世界',
    'こんにちは',
    '한국어',
    'ไทย',
  ],
  ...[
    'e\u0301',
    '👍🏽',
    '👩‍👩‍👧',
    '🏳️‍🌈',
    '☃',
    '…',
    '—',
    '“quoted”',
    '\ufeff',
    '<b>bold</b>',
    '**bold**',
    '`code`',
  ],
  ...[
    'the',
    'Tokenizer',
    'CamelCaseName',
    'snake_case_name',
    'http://example.org/a?b=c#d',
    '!!!',
    '...',
    '($)',
  ],
]
const FROM_FILES = 100
const COMPOSED = 100
const LONGEST = 1_200

/** 200 texts, the same ones each time: pieces of files, and parts put together at random. */
export function mixedTexts(): string[] {
  const next = xorshift(7)
  const below = (count: number) => Math.floor(((next() + 1) / 2) * count)
  const files = FILES.map((file) => readFileSync(`${packageRoot}/${file}`, 'utf8'))
  const cut = () => {
    const text = files[below(files.length)] ?? ''
    const begin = below(text.length)
    return text.slice(begin, begin + 1 + below(LONGEST)).toWellFormed()
  }
  const compose = () =>
    Array.from({ length: 1 + below(40) }, () => PARTS[below(PARTS.length)] ?? '').join(below(2) ? ' ' : '')
  return [...Array.from({ length: FROM_FILES }, cut), ...Array.from({ length: COMPOSED }, compose)]
}
