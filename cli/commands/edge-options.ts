import type { Command } from 'commander'
import { folder, integer, origins, port } from '../options.ts'

/** Of the commands that start an edge on this machine: `serve` and `edge`. */
export interface EdgeFlags {
  host: string
  port: number
  addressHeader?: string
  allowedOrigins?: string
  feedbackDays?: number
  responseDays?: number
  state?: string
}

export function addListenOptions(command: Command): Command {
  return command
    .option('--host <address>', 'where to listen', '127.0.0.1')
    .option('--port <port>', '0 takes any free one', port, 8787)
}

export function addEdgeOptions(command: Command): Command {
  return command
    .option(
      '--address-header <name>',
      "header with the client's IP address, set by a proxy in front (default: none is trusted)",
    )
    .option(
      '--allowed-origins <list>',
      'comma-separated origins whose pages may call the API, or * (default: only its own page)',
      origins,
    )
    .option(
      '--feedback-days <n>',
      'for how many days votes of users are kept; 0: none are taken (default: 90)',
      integer(0, 3650),
    )
    .option(
      '--response-days <n>',
      'for how many days responses of the API are stored; 0: none are (default: 30)',
      integer(0, 3650),
    )
    .option(
      '--state <folder>',
      'folder that stores keys, usage, feedback and responses (default: in memory only)',
      folder,
    )
}

/** Variables and secrets of the worker: what the flags and the environment of both commands say. */
export function edgeSettings(flags: EdgeFlags): Record<string, string> {
  const { APAR_ADMIN_KEY: adminKey, METRICS_SECRET: metricsSecret } = process.env
  return {
    ...(adminKey && { ADMIN_KEY: adminKey }),
    ...(metricsSecret && { METRICS_SECRET: metricsSecret }),
    ...(flags.feedbackDays !== undefined && { FEEDBACK_DAYS: String(flags.feedbackDays) }),
    ...(flags.responseDays !== undefined && { RESPONSE_DAYS: String(flags.responseDays) }),
    ...(flags.allowedOrigins && { ALLOWED_ORIGINS: flags.allowedOrigins }),
  }
}
