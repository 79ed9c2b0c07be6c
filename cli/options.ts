import { InvalidArgumentError } from 'commander'

/** A parser for a whole number within bounds. */
export function integer(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(`a whole number from ${minimum} to ${maximum} is needed`)
    }
    return value
  }
}

export const port = integer(0, 65_535)
