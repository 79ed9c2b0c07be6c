import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyResult, jwtVerify } from 'jose'
import { z } from 'zod'
import { KeyPolicy, Limits, Priority, Scope, UnknownFields, Weight } from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'
import { parse, parseJson } from '../../shared/parse.ts'
import type { Env } from '../env.ts'
import { jwtPrincipalId, type Principal } from './principal.ts'

/** Allowed with a key set (JWKS); a shared secret is used with HS256 only. */
const PUBLIC_KEY_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA']
const CLOCK_TOLERANCE_SECONDS = 5
/** Errors of the token itself. All others are faults of the key set or the configuration. */
const TOKEN_ERRORS = [
  errors.JWTExpired,
  errors.JWTInvalid,
  errors.JWTClaimValidationFailed,
  errors.JWSInvalid,
  errors.JWSSignatureVerificationFailed,
  errors.JOSEAlgNotAllowed,
  errors.JWKSNoMatchingKey,
  errors.JWKSMultipleMatchingKeys,
  errors.JOSENotSupported,
]

/** The claims that apar reads, beside issuer and audience. */
const Claims = z.object({
  sub: z.string().min(1).max(256),
  exp: z.number(),
  /** Scopes separated by spaces; unknown ones are ignored. Default: `generate models`. */
  scope: z.string().optional(),
  models: KeyPolicy.shape.models.unwrap().optional(),
  /** Replaces `JWT_LIMITS` for this subject. */
  limits: Limits.optional(),
  weight: Weight.default(1),
  priority: Priority.default(0),
  unknown_fields: UnknownFields.default('refuse'),
})

export function looksLikeJwt(text: string): boolean {
  return /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(text)
}

/** @throws AparError `invalid_api_key` for a token that is invalid or expired. */
export async function verifyJwt(env: Env, token: string): Promise<Principal> {
  const payload = await verified(env, token).catch((thrown) => {
    if (thrown instanceof AparError) throw thrown
    if (!TOKEN_ERRORS.some((kind) => thrown instanceof kind)) throw thrown
    const expired = thrown instanceof errors.JWTExpired
    throw new AparError('invalid_api_key', `this token ${expired ? 'has expired' : 'is not valid'}`)
  })
  const claims = Claims.safeParse(payload)
  if (!claims.success) {
    const claim = claims.error.issues[0]?.path.join('.') ?? ''
    throw new AparError('invalid_api_key', `this token is not valid: its claim ${claim} is missing or wrong`)
  }
  const { sub, exp, scope = 'generate models', models = null, limits, ...policy } = claims.data
  const scopes = Scope.options.filter((name) => scope.split(' ').includes(name))
  return {
    id: jwtPrincipalId(sub),
    scopes,
    models,
    limits: limits ?? configuredLimits(env.JWT_LIMITS),
    ...policy,
    expiresAt: exp + CLOCK_TOLERANCE_SECONDS,
  }
}

async function verified(env: Env, token: string): Promise<JWTPayload> {
  const { JWT_SECRET, JWT_JWKS_URL, JWT_ISSUER, JWT_AUDIENCE } = env
  const claims = {
    requiredClaims: ['sub', 'exp'],
    clockTolerance: CLOCK_TOLERANCE_SECONDS,
    ...(JWT_ISSUER && { issuer: JWT_ISSUER }),
    ...(JWT_AUDIENCE && { audience: JWT_AUDIENCE }),
  }
  let result: JWTVerifyResult
  if (JWT_JWKS_URL) {
    result = await jwtVerify(token, keySet(JWT_JWKS_URL), { ...claims, algorithms: PUBLIC_KEY_ALGORITHMS })
  } else if (JWT_SECRET) {
    const key = new TextEncoder().encode(JWT_SECRET)
    result = await jwtVerify(token, key, { ...claims, algorithms: ['HS256'] })
  } else {
    throw new AparError('invalid_api_key', 'this API key is not valid')
  }
  return result.payload
}

let remote: { url: string; keys: ReturnType<typeof createRemoteJWKSet> } | undefined

/** Fetched at first use, cached for 10 minutes, fetched again when a token names a key that the cache lacks. */
function keySet(url: string): ReturnType<typeof createRemoteJWKSet> {
  if (remote?.url !== url) remote = { url, keys: createRemoteJWKSet(new URL(url)) }
  return remote.keys
}

function configuredLimits(json: string | undefined): Limits {
  if (json === undefined) return parse(Limits, {})
  try {
    return parseJson(Limits, json)
  } catch (cause) {
    throw new Error('JWT_LIMITS is not valid', { cause })
  }
}
