import { type EdgeWorker, folderOf, isStored } from './edge-workers.ts'

/** Name of the socket that the edge answers on, for workerd's options and messages. */
export const SOCKET = 'http'
/** Name of the folder with the stored objects, for workerd's option. */
export const DISK = 'disk'

/** The variable of workerd's process with a text binding's value: secrets are in no file. */
export function variableOf(binding: string): string {
  return `APAR_EDGE_${binding}`
}

/**
 * The configuration of workerd, in its own text format (workerd.capnp describes it). The worker is there twice: one answers
 * the requests and keeps its objects in memory, the other has the objects of the stored classes, because workerd makes
 * a file for every object of a worker whose storage is on disk. On Cloudflare one worker has all of them.
 * @param texts names of the worker's text bindings; {@link variableOf} names the variables with their values.
 */
export function workerdConfig(worker: EdgeWorker, texts: readonly string[]): string {
  const answering = worker.name
  const stored = `${worker.name}-state`
  return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = ${text(answering)}, worker = (${workerFields(worker, texts, false, stored)},
      durableObjectStorage = (inMemory = void))),
    (name = ${text(stored)}, worker = (${workerFields(worker, texts, true, answering)},
      durableObjectStorage = (localDisk = ${text(DISK)}))),
    (name = ${text(DISK)}, disk = (writable = true)),
    # Gpu nodes may be on this machine.
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = ${text(SOCKET)}, http = (), service = ${text(answering)})],
  extensions = [(modules = [(name = "apar:rate-limit", internal = true, esModule = ${text(RATE_LIMIT)})])],
);
`
}

/** The fields of one of the two workers. Objects of the classes that it does not own are those of the worker `other`. */
function workerFields(
  worker: EdgeWorker,
  texts: readonly string[],
  ownsStored: boolean,
  other: string,
): string {
  const objects = Object.entries(worker.durableObjects)
  const isOwn = (className: string) => isStored(className) === ownsStored
  const modules = worker.modules.map((path) => `(name = ${text(path)}, esModule = embed ${text(`/${path}`)})`)
  const namespaces = objects
    .map(([, { className }]) => className)
    .filter(isOwn)
    .map((className) => {
      const key = folderOf(worker, className)
      return `(className = ${text(className)}, uniqueKey = ${text(key)}, enableSql = true)`
    })
  const bindings = [
    ...texts.map((name) => `(name = ${text(name)}, fromEnvironment = ${text(variableOf(name))})`),
    ...objects.map(([name, { className }]) => {
      const place = isOwn(className) ? '' : `, serviceName = ${text(other)}`
      return `(name = ${text(name)}, durableObjectNamespace = (className = ${text(className)}${place}))`
    }),
    ...Object.entries(worker.ratelimits).map(([name, { simple }]) => {
      const numbers = `(name = "limit", json = "${simple.limit}"), (name = "period", json = "${simple.period}")`
      return `(name = ${text(name)}, wrapped = (moduleName = "apar:rate-limit", innerBindings = [${numbers}]))`
    }),
  ]
  const list = (items: readonly string[]) => `[\n        ${items.join(',\n        ')}]`
  return `
      modules = ${list(modules)},
      compatibilityDate = ${text(worker.compatibilityDate)},
      compatibilityFlags = [${worker.compatibilityFlags.map(text).join(', ')}],
      durableObjectNamespaces = ${list(namespaces)},
      bindings = ${list(bindings)},
      globalOutbound = "internet"`
}

/** A string literal of Cap'n Proto. @throws Error for text that has no place in such a file. */
function text(value: string): string {
  if (!/^[\n\x20-\x7e]*$/.test(value)) throw new Error(`not plain text: ${JSON.stringify(value)}`)
  return `"${value.replace(/["\\]/g, '\\$&').replace(/\n/g, '\\n')}"`
}

/** Cloudflare's rate limit within one process: so many calls with a key in each period. */
const RATE_LIMIT = `export default ({ limit, period }) => {
  let epoch = 0;
  const counts = new Map();
  return {
    async limit({ key }) {
      const now = Math.floor(Date.now() / (1000 * period));
      if (now !== epoch) counts.clear();
      epoch = now;
      const count = counts.get(key) ?? 0;
      if (count >= limit) return { success: false };
      counts.set(key, count + 1);
      return { success: true };
    },
  };
};
`
