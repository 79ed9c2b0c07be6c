export declare function buildNative(options: {
  tests?: boolean
  bench?: boolean
  quiet?: boolean
}): Promise<void>
