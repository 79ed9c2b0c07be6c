import { createApp } from './app.ts'

export { Fleet } from './durable/fleet.ts'
export { KeyLimits } from './durable/key-limits.ts'
export { StreamSession } from './durable/stream-session.ts'

export default createApp()
