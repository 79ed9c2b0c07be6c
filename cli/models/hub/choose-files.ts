import { UserError } from '../../explain.ts'
import { showBytes } from '../show.ts'

interface NamedFile {
  readonly path: string
  readonly bytes: number
}

/** Configuration, tokenizer and templates: small files at the top of a repository. */
const SMALL = /^([^/]+\.(json|jinja)|tokenizer\.model|merges\.txt)$/
/** Mistral's own format repeats all weights in `consolidated*.safetensors`. */
const SAFETENSORS = /^(?!consolidated)[^/]+\.safetensors$/
const TORCH = /^(pytorch_model[^/]*|adapter_model)\.bin$/
/** The heads of APAR's published checkpoints. */
const MEDUSA = /^(medusa\/)?(medusa_lm_head\.(pt|safetensors)|config\.json)$/
const GGUF = /\.gguf$/i

/**
 * The files of a repository that apar needs to serve it, or those that `include` names: patterns with `*` and `?`,
 * where `*` matches slashes too.
 * @throws UserError `choose_file` when the user has to choose, or nothing fits.
 */
export function chooseFiles<T extends NamedFile>(
  repo: string,
  files: readonly T[],
  include: readonly string[] = [],
): T[] {
  if (include.length > 0) return included(repo, files, include)
  const matching = (pattern: RegExp) => files.filter(({ path }) => pattern.test(path))
  const safetensors = matching(SAFETENSORS)
  const weights = safetensors.length > 0 ? safetensors : matching(TORCH)
  const heads = matching(MEDUSA)
  if (weights.length > 0 || heads.some(({ path }) => !path.endsWith('.json'))) {
    return [...new Set([...matching(SMALL), ...weights, ...heads])]
  }
  const [only, ...more] = matching(GGUF)
  if (only && more.length === 0) return [only]
  if (only) throw severalFiles(`${repo} has`, [only, ...more], (path) => `--include ${quoted(path)}`)
  const what = 'no safetensors, pytorch_model.bin or GGUF file at its top'
  throw new UserError('choose_file', `${repo} has ${what}: name the files that are needed with --include`)
}

/** `option` writes the choice of a file. */
export function severalFiles(
  where: string,
  files: readonly NamedFile[],
  option: (path: string) => string,
): UserError {
  const names = files.map(({ path, bytes }) => `${path} (${showBytes(bytes)})`)
  const some = names.length > 24 ? [...names.slice(0, 24), `and ${names.length - 24} more`] : names
  const example = option(files[0]?.path ?? '')
  const what = `${where} ${files.length} GGUF files: choose one, for example ${example}; there are`
  return new UserError('choose_file', `${what} ${some.join(', ')}`)
}

function included<T extends NamedFile>(repo: string, files: readonly T[], include: readonly string[]): T[] {
  const chosen = new Set<T>()
  for (const glob of include) {
    const pattern = globPattern(glob)
    const found = files.filter(({ path }) => pattern.test(path))
    if (found.length === 0) {
      const names = files.slice(0, 24).map(({ path }) => path)
      const there = names.length > 0 ? `there are ${names.join(', ')}` : 'it is empty'
      const more = files.length > names.length ? ', ...' : ''
      throw new UserError('choose_file', `${repo} has no file ${JSON.stringify(glob)}: ${there}${more}`)
    }
    for (const file of found) chosen.add(file)
  }
  return [...chosen]
}

function globPattern(glob: string): RegExp {
  const parts = [...glob].map((character) => {
    if (character === '*') return '.*'
    return character === '?' ? '.' : character.replace(/[\\^$.|+()[\]{}]/, '\\$&')
  })
  return new RegExp(`^${parts.join('')}$`, 'su')
}

function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}
