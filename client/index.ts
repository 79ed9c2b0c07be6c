/** apar's client: streams of answers that are decoded in several branches at once. */

export { type Branch, BranchTree, OrderedText } from '../shared/branch-tree.ts'
export { AparError, type ErrorCode } from '../shared/errors.ts'
export type { FinishReason, StreamEvent, Usage } from '../shared/protocol/events.ts'
export type { ChatMessage, GenerateRequest } from '../shared/protocol/request.ts'
export type { Speculation, SpeculationUsage } from '../shared/protocol/speculation.ts'
export type { Trace, TraceStep } from '../shared/protocol/trace.ts'
export { type Connection, type ConnectionOptions, openConnection } from './connection.ts'
export { listModels } from './models.ts'
export type { SocketConstructor, SocketLike } from './socket.ts'
export {
  BranchStream,
  openStream,
  type ResumeOptions,
  resumeStream,
  type StreamOptions,
  type StreamPosition,
} from './stream.ts'
