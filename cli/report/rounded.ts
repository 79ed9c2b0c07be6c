/** For JSON.stringify: numbers with six digits. */
export function rounded(_: string, value: unknown): unknown {
  return typeof value === 'number' ? Number(value.toPrecision(6)) : value
}
