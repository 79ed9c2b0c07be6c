/** apar as a provider of the AI SDK. */

export type { AparModelOptions } from './body.ts'
export { type AparDataParts, type BranchPiece, type BranchPiecePart, branchParts } from './branch-parts.ts'
export { branchesOf, type ShownBranch } from './branches.ts'
export { aparErrorOf } from './errors.ts'
export type { BranchMetadata } from './metadata.ts'
export { type AparProvider, type AparProviderSettings, apar, createApar } from './provider.ts'
