/**
 * An object of a file, read field by field, and where it stands there: the file may come from anywhere. Not with the
 * schemas of `shared/`, which would make the page three times as large.
 * @throws Error from each method that says in words for the user which field is wrong.
 */
export class FieldReader {
  readonly value: Record<string, unknown>
  readonly #where: string

  constructor(value: unknown, where = '') {
    this.#where = where
    if (typeof value !== 'object' || value === null || Array.isArray(value)) this.fail('')
    this.value = { ...(value as object) }
  }

  string(name: string): string {
    const value = this.value[name]
    return typeof value === 'string' ? value : this.fail(name)
  }

  number(name: string): number {
    const value = this.value[name]
    return typeof value === 'number' ? value : this.fail(name)
  }

  /** One of `values`. */
  oneOf<T extends string>(name: string, values: readonly T[]): T {
    return values.find((value) => value === this.value[name]) ?? this.fail(name)
  }

  object(name: string): FieldReader {
    return new FieldReader(this.value[name], `${this.#where}${name}.`)
  }

  list(name: string): unknown[] {
    const value = this.value[name]
    return Array.isArray(value) ? value : this.fail(name)
  }

  objects(name: string): FieldReader[] {
    return this.list(name).map((each, index) => new FieldReader(each, `${this.#where}${name}.${index}.`))
  }

  /** The field as an object to be spread; empty when it is absent. */
  optional<N extends string>(name: N, type: 'string' | 'number'): object {
    const value = this.value[name]
    if (value === undefined) return {}
    return typeof value === type ? { [name]: value } : this.fail(name)
  }

  fail(name: string): never {
    const place = `${this.#where}${name}`.replace(/\.$/, '')
    throw new Error(`This file is damaged: ${place || 'it'} is not what it should be.`)
  }
}
