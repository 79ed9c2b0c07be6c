import type { Mapping, Value } from './jinja-types.ts'

/** What Python's `str` makes of a value: templates write tools and arguments with it. */
export function pythonText(value: Value): string {
  return typeof value.value === 'string' ? value.value : written(value)
}

function written(value: Value): string {
  switch (value.type) {
    case 'StringValue':
      return quoted(String(value.value))
    case 'BooleanValue':
      return value.value === true ? 'True' : 'False'
    case 'NullValue':
      return 'None'
    case 'UndefinedValue':
      return ''
    case 'ArrayValue':
      return `[${membersOf(value).map(written).join(', ')}]`
    case 'TupleValue':
      return `(${membersOf(value).map(written).join(', ')})`
    case 'ObjectValue':
      return `{${membersOf((value as Mapping).items())
        .map(member)
        .join(', ')}}`
    default:
      return String(value)
  }
}

function member(item: Value): string {
  return membersOf(item).map(written).join(': ')
}

function membersOf({ value }: Value): readonly Value[] {
  return value as readonly Value[]
}

const ESCAPES = new Map([
  ['\\', '\\\\'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
])

/** As `repr` has it. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const escaped = text.replaceAll(/[\\\p{C}\p{Z}]/gu, (character) => {
    return character === ' ' ? character : (ESCAPES.get(character) ?? numbered(character))
  })
  return `${quote}${quote === "'" ? escaped.replaceAll("'", "\\'") : escaped}${quote}`
}

function numbered(character: string): string {
  const number = (character.codePointAt(0) ?? 0).toString(16)
  if (number.length <= 2) return `\\x${number.padStart(2, '0')}`
  return number.length <= 4 ? `\\u${number.padStart(4, '0')}` : `\\U${number.padStart(8, '0')}`
}
