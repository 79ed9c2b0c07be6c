import { sendFeedback, withdrawFeedback } from '../../../client/feedback.ts'
import { MAX_FEEDBACK_CHARS } from '../../../shared/feedback-limits.ts'
import type { ChatMessage } from '../../../shared/protocol/types/request.ts'
import { type Answer, type Opinion, pathTo } from '../history/conversation.ts'
import { requestFor } from '../request.ts'
import { change } from './answers.ts'
import { apiKey } from './api-key.ts'
import { describeProblem, problemOf } from './problem.ts'
import { announcement, current, messages, notice } from './state.ts'

/** Tells the operator. `withTexts`: the user lets the operator read the conversation up to this answer. */
export async function giveOpinion(answer: Answer, opinion: Opinion, withTexts: boolean): Promise<boolean> {
  const { model, parallel } = answer.recorded
  const said = { ...opinion, ...(withTexts && { messages: textsUpTo(answer) }) }
  const send = () => sendFeedback(location.origin, apiKey.value, { id: answer.id, model, parallel, ...said })
  return await told(send, { ...answer, opinion }, 'Your vote was sent.')
}

export async function takeBack(answer: Answer): Promise<boolean> {
  const { opinion: _, ...without } = answer
  const send = () => withdrawFeedback(location.origin, apiKey.value, answer.id)
  return await told(send, without, 'Your vote was taken back.')
}

async function told(send: () => Promise<void>, changed: Answer, words: string): Promise<boolean> {
  try {
    await send()
  } catch (thrown) {
    notice.value = describeProblem(problemOf(thrown))
    return false
  }
  change(changed)
  announcement.value = words
  return true
}

/** The newest messages that fit, the answer last. */
function textsUpTo(answer: Answer): ChatMessage[] {
  const path = pathTo(messages.value, answer.id)
  const texts: ChatMessage[] = []
  let room = MAX_FEEDBACK_CHARS
  for (const message of requestFor(path, current.value.settings, '').messages.reverse()) {
    room -= message.content.length
    if (room < 0) break
    texts.unshift(message)
  }
  return texts
}
