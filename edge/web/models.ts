import { AparError, type ErrorBody } from '../../shared/errors.ts'

/**
 * Names of the models that live gpu nodes serve.
 * @throws AparError as the edge answered; Error when it cannot be reached.
 */
export async function fetchModels(apiKey: string): Promise<string[]> {
  const response = await fetch('/v1/models', { headers: { authorization: `Bearer ${apiKey}` } })
  const body: unknown = await response.json()
  if (!response.ok) {
    const { error } = body as ErrorBody
    throw new AparError(error.code, error.message)
  }
  return (body as { data: { id: string }[] }).data.map(({ id }) => id)
}
