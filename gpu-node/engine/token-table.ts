/** The bytes that each token adds to a text: those of token i lie from `offsets[i]` to `offsets[i + 1]`. */
export interface TokenTable {
  readonly bytes: Uint8Array
  /** One more than the model has tokens, ascending, the last one `bytes.length`. */
  readonly offsets: Int32Array
  /** Tokens whose bytes are part of calls of tools only: markers that are tokens of their own. */
  readonly markers: Int32Array
  /** The tokenizer puts one space in front of an answer, which is not part of its text. */
  readonly dropsLeadingSpace: boolean
  /** The checkpoint's joints are `mended` (shared/protocol/events.ts). */
  readonly mendsJoints: boolean
}

/** For an engine that does not know the bytes of its tokens: requests with stop strings are refused. */
export const NO_TEXT: TokenTable = {
  bytes: new Uint8Array(),
  offsets: new Int32Array(),
  markers: new Int32Array(),
  dropsLeadingSpace: false,
  mendsJoints: false,
}
