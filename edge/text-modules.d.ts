/** Files that edge/build.mjs writes to dist/web. They are bundled into the worker as text. */
declare module '*.html' {
  const text: string
  export default text
}
declare module '*.txt' {
  const text: string
  export default text
}
