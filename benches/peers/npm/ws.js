// Echo and broadcast on `ws` under Node.js, with `bufferutil`, which its documentation advises.
// It sets TCP_NODELAY itself.
'use strict'

const { WebSocketServer } = require('ws')
const { MESSAGE_BYTES_MAX, parse } = require('./arguments.js')

const { host, port, mode, deflate } = parse('ws', process.argv.slice(2))
const server = new WebSocketServer({
  host,
  port,
  maxPayload: MESSAGE_BYTES_MAX,
  // Level 1 is longwire's default, so that both do the same work.
  perMessageDeflate: deflate && { zlibDeflateOptions: { level: 1 } },
  // Linux cuts it to net.core.somaxconn; the default of Node.js is 511.
  backlog: 4096,
  // Broadcasting is done from this set, so that an echo server need not keep it.
  clientTracking: mode === 'broadcast',
})

server.on('listening', () => {
  const { address, port } = server.address()
  console.log(`listening on ${address}:${port}`)
})
server.on('error', (error) => {
  process.stderr.write(`ws: error: ${error.message}\n`)
  process.exit(2)
})
server.on('connection', (socket) => {
  // A connection that fails has told its peer; nobody else wants to know.
  socket.on('error', () => {})
  socket.on('message', mode === 'echo' ? echo : broadcast)
})

function echo(data, isBinary) {
  this.send(data, { binary: isBinary })
}

function broadcast(data, isBinary) {
  for (const client of server.clients) client.send(data, { binary: isBinary })
}
