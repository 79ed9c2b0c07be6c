/**
 * Whether a requirement of a test is met; use as `describe.skipIf(!requires('spm_train', …))`. If not, prints the
 * reason, or throws with CI=true: in CI everything must be installed, and a silent skip would hide a broken test.
 */
export function requires(name: string, check: () => boolean): boolean {
  let reason = 'not found'
  try {
    if (check()) return true
  } catch (error) {
    reason = error instanceof Error ? (error.message.split('\n')[0] ?? reason) : String(error)
  }
  const message = `skipped, because ${name} is missing: ${reason}`
  if (process.env.CI === 'true') throw new Error(message)
  console.warn(message)
  return false
}
