/** apar's client: streams of answers that are decoded in several branches at once. */

export { type Branch, BranchTree, OrderedText, type Piece, type TextEnd } from '../shared/branch-tree.ts'
export { AparError, type AparErrorOptions, type ErrorBody, type ErrorCode } from '../shared/errors.ts'
export type {
  AcceptedEvent,
  BranchEndEvent,
  DeltaEvent,
  DoneEvent,
  ErrorEvent,
  FinishReason,
  ForkEvent,
  Joints,
  LikelyToken,
  PromptEvent,
  PromptToken,
  ReasoningEvent,
  StreamEvent,
  TokenLogprob,
  TraceEvent,
  Usage,
} from '../shared/protocol/types/events.ts'
export type { Feedback, Vote } from '../shared/protocol/types/feedback.ts'
export type { BranchOptions, ChatMessage, GenerateRequest } from '../shared/protocol/types/request.ts'
export type { Drafts, Speculation, SpeculationUsage } from '../shared/protocol/types/speculation.ts'
export type { Trace, TraceStep } from '../shared/protocol/types/trace.ts'
export { ReasoningText } from '../shared/reasoning-text.ts'
export { type Connection, openConnection } from './connection.ts'
export { sendFeedback, withdrawFeedback } from './feedback.ts'
export { listModels } from './models.ts'
export type { ConnectionOptions, ResumeOptions, StreamOptions, StreamPosition } from './options.ts'
export type { SocketConstructor, SocketLike } from './socket.ts'
export { BranchStream, openStream, resumeStream } from './stream.ts'
