import { z } from 'zod'
import { Joints } from '../../../shared/protocol/events.ts'

/** How a model forks its answers. */
export interface Branching {
  /** The object of config.json that says so: messages name its fields. */
  readonly source: 'apar' | 'branching'
  readonly forkToken: string
  readonly childToken: string
  readonly joints: Joints
  readonly limits: BranchLimits
}

/** What the model was trained for: a request's own limits may be lower. */
export interface BranchLimits {
  /** Branches alive at the same time, the root included. */
  readonly maxBranches?: number | undefined
  /** The root has depth 1. */
  readonly maxDepth?: number | undefined
}

/** How the texts of parent and child are joined: the object `apar`, which apar's trainer writes. */
const AparFields = z.strictObject({
  fork_token: z.string().min(1),
  child_token: z.string().min(1),
  joints: Joints.default('kept'),
})

/** The same with what other trainers may do differently. */
const BranchingFields = AparFields.extend({
  /** Whether the fork token is in the child's context, as its last token before the child token. */
  child_sees_fork: z.boolean().default(true),
  max_branches: z.int().min(1).nullish(),
  max_depth: z.int().min(1).nullish(),
})

export const BRANCHING_FIELDS = { apar: AparFields.optional(), branching: BranchingFields.optional() }

type Fields = z.infer<z.ZodObject<typeof BRANCHING_FIELDS>>
type Refuse = (field: string, why: string) => never

/** Undefined for a configuration that says nothing of forks. */
export function readBranching({ apar, branching }: Fields, refuse: Refuse): Branching | undefined {
  if (apar && branching) refuse('branching', 'apar says the same: keep one of the two')
  const fields = branching ?? apar
  if (!fields) return undefined
  if (branching?.child_sees_fork === false) {
    refuse(
      'branching.child_sees_fork',
      'only true is computed: the context of a child ends with the fork token',
    )
  }
  return {
    source: branching ? 'branching' : 'apar',
    forkToken: fields.fork_token,
    childToken: fields.child_token,
    joints: fields.joints,
    limits: {
      maxBranches: branching?.max_branches ?? undefined,
      maxDepth: branching?.max_depth ?? undefined,
    },
  }
}

/** Of the published APAR checkpoints: their config.json says nothing of forks, but their tokenizers have these tokens. */
export const PUBLISHED: Branching = {
  source: 'apar',
  forkToken: '[SplitMask]',
  childToken: '[SplitSop]',
  joints: 'mended',
  limits: {},
}
