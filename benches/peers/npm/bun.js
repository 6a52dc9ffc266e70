// Echo and broadcast on the WebSocket server of Bun, which sets TCP_NODELAY itself.
// Broadcast is its own publishing to a topic that every connection subscribes to.
'use strict'

const { MESSAGE_BYTES_MAX, parse } = require('./arguments.js')

const TOPIC = 'all'

const { host, port, mode } = parse('bun', process.argv.slice(2))
const isEcho = mode === 'echo'
let server
try {
  server = Bun.serve({
    hostname: host,
    port,
    fetch(request, server) {
      if (server.upgrade(request)) return undefined
      return new Response('this is a WebSocket server\n', { status: 426 })
    },
    websocket: {
      maxPayloadLength: MESSAGE_BYTES_MAX,
      // Beyond this it drops messages without a word.
      backpressureLimit: 2 * MESSAGE_BYTES_MAX,
      perMessageDeflate: false,
      open(socket) {
        if (!isEcho) socket.subscribe(TOPIC)
      },
      message(socket, message) {
        if (isEcho) socket.send(message)
        else server.publish(TOPIC, message)
      },
    },
  })
} catch (error) {
  process.stderr.write(`bun: error: ${error.message}\n`)
  process.exit(2)
}
console.log(`listening on ${server.hostname}:${server.port}`)
