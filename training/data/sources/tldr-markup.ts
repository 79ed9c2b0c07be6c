/** A tldr command without its markup, and the information from the markup. */
export interface Command {
  text: string
  /** From `{{[-a|--all]}}`: `text` contains the long form. */
  shortcuts: { long: string; short: string }[]
  /** From `{{a|b|c}}`: `text` contains the first choice. */
  choices: { chosen: string; others: string[] }[]
  /** From `{{path/to/file}}`: values that the reader must fill in. */
  placeholders: string[]
}

/**
 * `tar {{[-c|--create]}} {{path/to/file}}` → `tar --create path/to/file`.
 * @returns undefined for a command whose braces are not plain tldr markup (escaped or nested).
 */
export function readCommand(source: string): Command | undefined {
  if (/\\[{}]/.test(source)) return undefined
  const command: Command = { text: '', shortcuts: [], choices: [], placeholders: [] }
  command.text = source.replace(/\{\{(.*?)\}\}/g, (_, inner: string) =>
    readPlaceholder(inner.trim(), command),
  )
  // The extraction rules refuse links, and a host name serves as well.
  command.text = command.text.replace(/https?:\/\//g, '')
  if (/\{\{|\}\}/.test(command.text)) return undefined
  return command
}

function readPlaceholder(inner: string, command: Command): string {
  const option = /^\[([^\]|]+)\|([^\]|]+)\]$/.exec(inner)
  if (option?.[1] && option[2]) {
    const shortcut = { short: option[1], long: option[2] }
    if (!command.shortcuts.some(({ long }) => long === shortcut.long)) command.shortcuts.push(shortcut)
    return option[2]
  }
  // path/to/source.tar[.gz|.bz2|.xz]: one of the endings
  const plain = inner.replace(/https?:\/\//g, '').replace(/\[([^\]|]*)\|[^\]]*\]/g, '$1')
  const [chosen, ...others] = plain.split('|')
  if (chosen && others.length > 0 && /^[\w.:/+-]+$/.test(chosen)) {
    command.choices.push({ chosen, others: others.filter((other) => other !== '...') })
    return chosen
  }
  const words = plain.split(' ').filter((word) => word !== '...')
  // Of several words, only those like path1 path2 are placeholders; "Hello World" is an example text.
  const names = words.length === 1 ? words : words.filter((word) => /[/\d]/.test(word))
  for (const word of names) {
    if (/^[a-z~/][\w./@~-]+$/.test(word) && !command.placeholders.includes(word))
      command.placeholders.push(word)
  }
  return plain
}

const MAX_REMARK_CHARACTERS = 60

/** An item's title without `[c]reate` markup and without remarks in parentheses. */
export interface Title {
  text: string
  /** Letters that tldr marks: `[c]reate` means that c stands for create. */
  letters: { letter: string; word: string }[]
  remarks: string[]
}

export function readTitle(source: string): Title {
  const letters: Title['letters'] = []
  const remarks: string[] = []
  const text = source
    .replace(
      /(\w*)\[(\w{1,3})\](\w*)/g,
      (_, before: string, letter: string, after: string, offset: number) => {
        const inside = before !== '' || offset > 0
        const word = before + (inside && /^[a-z]*$/.test(after) ? letter.toLowerCase() : letter) + after
        if (word.length > letter.length) letters.push({ letter, word: word.toLowerCase() })
        return word
      },
    )
    .replace(/\b(an?|the) \((\w+)\) /gi, '$1 $2 ')
    .replace(/ ?\(([^()]*)\)/g, (_, remark: string) => {
      if (remark.length <= MAX_REMARK_CHARACTERS && !/^note/i.test(remark)) remarks.push(remark)
      return ''
    })
    .replace(/\. Note: .*$/, '')
    .replaceAll(': ', ', ')
    .replace(/[.:]$/, '')
    .replace(/\s+/g, ' ')
    .trim()
  return { text: text.charAt(0).toUpperCase() + text.slice(1), letters, remarks }
}

/** A page's description without its links to other pages and manuals: "Archiving utility." */
export function readDescription(source: string): string {
  return source
    .split(/(?<=\.) /)
    .filter((sentence) => !/^(See|More information|Note|Some subcommands|[a-z]+ )\b|http|tldr/.test(sentence))
    .join(' ')
    .replace(/\s+/g, ' ')
    .trim()
}
