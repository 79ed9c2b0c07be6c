/** What a pull tells while it runs. */
export interface PullProgress {
  begin(plan: PullPlan): void
  /** More bytes; negative when some are given up. */
  received(bytes: number): void
  fileDone(path: string, bytes: number): void
  /** Something that the user may want to know, such as a wait. */
  note(message: string): void
}

export interface PullPlan {
  name: string
  /** To be downloaded. */
  files: number
  bytes: number
  /** Of these bytes, those that an earlier pull has downloaded. */
  resumed: number
  /** Files that are in the cache already. */
  present: number
}

export interface Pulled {
  readonly name: string
  /** The model's folder, or its GGUF file. */
  readonly path: string
  /** Folder of a known model's adapter; it comes with apar. */
  readonly adapter?: string
  readonly commit?: string
  readonly files: readonly { readonly path: string; readonly bytes: number; readonly digest?: string }[]
  readonly downloadedBytes: number
}
