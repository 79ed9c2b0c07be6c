import type { z } from 'zod'
import type * as feedback from '../../shared/feedback.ts'
import type * as events from '../../shared/protocol/events.ts'
import type * as requests from '../../shared/protocol/request.ts'
import type * as speculation from '../../shared/protocol/speculation.ts'
import type * as trace from '../../shared/protocol/trace.ts'

/** A type with all its parts written out, so that two spellings of one type become identical. */
type Plain<T> = T extends object ? { [K in keyof T]: Plain<T[K]> } : T

/** Identical, not only assignable: neither side may have a field that the other lacks. */
type Same<A, B> =
  (<T>() => T extends Plain<A> ? 1 : 2) extends <T>() => T extends Plain<B> ? 1 : 2 ? true : false

/**
 * The types that users of the client see are written out (shared/protocol/types/), because those that zod infers need zod.
 * This file has no code to run: `npm run check` compiles it, and fails where a type and its schema differ (ADR 63).
 */
export const same: [
  Same<z.infer<typeof events.StreamEvent>, events.StreamEvent>,
  Same<z.infer<typeof events.Usage>, events.Usage>,
  Same<z.infer<typeof requests.ChatMessage>, requests.ChatMessage>,
  Same<z.infer<typeof requests.GenerateRequest>, requests.GenerateRequest>,
  Same<z.infer<typeof speculation.SpeculationUsage>, speculation.SpeculationUsage>,
  Same<z.infer<typeof trace.TraceStep>, trace.TraceStep>,
  Same<z.infer<typeof feedback.Feedback>, feedback.Feedback>,
] = [true, true, true, true, true, true, true]
