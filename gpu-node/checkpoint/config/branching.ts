import { z } from 'zod'
import { Joints } from '../../../shared/protocol/events.ts'
import type { Refuse } from '../refusals.ts'

/** How a model forks, and how the texts of parent and child are joined: the object `apar`, which apar's trainer writes. */
export const AparOptions = z.strictObject({
  fork_token: z.string().min(1),
  child_token: z.string().min(1),
  joints: Joints.default('kept'),
})
export type AparOptions = z.infer<typeof AparOptions>

/** What the model was trained for: a request's own limits may be lower. */
export interface BranchLimits {
  /** Branches alive at the same time, the root included. */
  readonly maxBranches?: number | undefined
  /** The root has depth 1. */
  readonly maxDepth?: number | undefined
}

/** How a model forks its answers. */
export interface Branching extends Readonly<AparOptions> {
  readonly limits?: BranchLimits
  /** The object of config.json that says so: messages name its fields. Default: apar. */
  readonly source?: 'branching'
}

/** The same with what other trainers may do differently. */
const BranchingOptions = AparOptions.extend({
  /** Whether the fork token is in the child's context, as its last token before the child token. */
  child_sees_fork: z.boolean().default(true),
  max_branches: z.int().min(1).nullish(),
  max_depth: z.int().min(1).nullish(),
})

export const BRANCHING_FIELDS = { apar: AparOptions.optional(), branching: BranchingOptions.optional() }

type Fields = z.infer<z.ZodObject<typeof BRANCHING_FIELDS>>

/** Undefined for a configuration that says nothing of forks. */
export function readBranching({ apar, branching }: Fields, refuse: Refuse): Branching | undefined {
  if (apar && branching) refuse('branching', 'apar says the same: keep one of the two')
  if (!branching) return apar
  const { fork_token, child_token, joints, child_sees_fork, max_branches, max_depth } = branching
  if (!child_sees_fork) {
    refuse(
      'branching.child_sees_fork',
      'only true is computed: the context of a child ends with the fork token',
    )
  }
  const limits = { maxBranches: max_branches ?? undefined, maxDepth: max_depth ?? undefined }
  return { source: 'branching', fork_token, child_token, joints, limits }
}
