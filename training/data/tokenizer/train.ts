import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { AparError } from '../../../shared/errors.ts'
import { toTokenizerJson } from './convert.ts'
import { readSentencePiece } from './sentencepiece.ts'

export interface TrainTokenizerOptions {
  /** Training texts. */
  texts: Iterable<string> | AsyncIterable<string>
  /** Vocabulary size including the added tokens; default 4096. */
  vocabSize?: number
  /** Special tokens after the pieces. */
  added: readonly string[]
}

/**
 * Trains a tokenizer with SentencePiece's `spm_train` (Debian package sentencepiece) and returns it as
 * tokenizer.json text.
 * @throws AparError when spm_train is missing or fails, for example on too little text for the vocabulary size.
 */
export async function trainTokenizer({
  texts,
  vocabSize = 4096,
  added,
}: TrainTokenizerOptions): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'apar-spm-'))
  try {
    const input = join(folder, 'text.txt')
    await pipeline(lines(texts), createWriteStream(input))
    await spmTrain([
      `--input=${input}`,
      `--model_prefix=${join(folder, 'spm')}`,
      `--vocab_size=${vocabSize - added.length}`,
      '--model_type=bpe',
      '--byte_fallback=true',
      '--character_coverage=0.9999',
      '--normalization_rule_name=identity',
      '--add_dummy_prefix=false',
      '--remove_extra_whitespaces=false',
      '--split_digits=true',
      '--max_sentence_length=100000',
      '--unk_id=0',
      '--bos_id=1',
      '--eos_id=2',
      '--pad_id=-1',
      '--num_threads=1',
      '--minloglevel=1',
    ])
    const model = readSentencePiece(await readFile(join(folder, 'spm.model')))
    return JSON.stringify(toTokenizerJson(model, added))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * Splits lines at the space after an item's number, which is a separate piece (convert.ts): the next word is
 * trained without it.
 */
async function* lines(texts: TrainTokenizerOptions['texts']): AsyncGenerator<string> {
  for await (const text of texts) yield `${text.replaceAll(/(?<=[0-9]\.) /g, '\n')}\n`
}

/** The last line that contains a reason: spm_train may add a line about its termination. */
function reasonIn(errors: string): string {
  const said = errors.trim().split('\n')
  return said.findLast((line) => !/^Program terminated/.test(line)) ?? ''
}

function spmTrain(args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('spm_train', args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let errors = ''
    child.stderr.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-2000)
    })
    child.on('error', (cause) =>
      reject(
        new AparError('invalid_request', 'spm_train is missing: install the package sentencepiece', {
          cause,
        }),
      ),
    )
    child.on('close', (code) => {
      if (code === 0) resolve()
      else reject(new AparError('invalid_request', `spm_train failed: ${reasonIn(errors)}`))
    })
  })
}
