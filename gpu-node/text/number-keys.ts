import { inOrder } from './jinja-order.ts'
import type { Arguments, Mapping, Value } from './jinja-types.ts'

interface Make {
  text(value: string): Value
  list(values: readonly Value[]): Value
}

/** Lets a mapping have numbers for keys: `keys` has the key of each text that stands for one. */
export function withNumberKeys(mapping: Mapping, keys: ReadonlyMap<string, Value>, make: Make): void {
  const keyOf = (text: string) => keys.get(text) ?? make.text(text)
  const items = () => [...mapping.value].map(([text, value]) => [keyOf(text), value] as const)
  mapping.keys = () => make.list([...mapping.value.keys()].map(keyOf))
  mapping.items = () => make.list(items().map((item) => make.list(item)))
  const get = mapping.builtins.get('get')
  const find = get?.value
  if (get && find) get.value = ([key, ...others]) => find([make.text(String(key?.value)), ...others])
  const sort = mapping.builtins.get('dictsort')
  if (sort) sort.value = (args) => make.list(sorted(items(), args).map((item) => make.list(item)))
}

type Item = readonly [Value, Value]

/** `dictsort(case_sensitive, by, reverse)` */
function sorted(items: readonly Item[], args: Arguments): Item[] {
  const named = args.find(({ type }) => type === 'KeywordArgumentsValue')?.value as
    | ReadonlyMap<string, Value>
    | undefined
  const others = args.filter(({ type }) => type !== 'KeywordArgumentsValue')
  const [caseSensitive, by, reverse] = ['case_sensitive', 'by', 'reverse'].map(
    (name, index) => (others[index] ?? named?.get(name))?.value,
  )
  const at = by === 'value' ? 1 : 0
  const sortedItems = items.toSorted((a, b) => inOrder(a[at], b[at], caseSensitive === true))
  return reverse === true ? sortedItems.reverse() : sortedItems
}
