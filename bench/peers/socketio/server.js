// Socket.IO with its Redis adapter, for comparison: JWT checked in the
// handshake, a room for each user, and the publish API of bench/floors. Every
// message is published to Redis for other servers, although this one gives it to
// its own clients itself.
//
// node server.js CLIENTS PUBLISH REDIS SECRET, the first three as host:port.
"use strict";

const crypto = require("node:crypto");
const http = require("node:http");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

const [clientsAddr, publishAddr, redisAddr, secret] = process.argv.slice(2);

// userOf returns the user that an HS256 token is of, null if it is none.
function userOf(token) {
  const parts = String(token).split(".");
  if (parts.length !== 3) return null;
  const want = crypto.createHmac("sha256", secret).update(parts[0] + "." + parts[1]).digest();
  const got = Buffer.from(parts[2], "base64url");
  if (got.length !== want.length || !crypto.timingSafeEqual(got, want)) return null;
  const claims = JSON.parse(Buffer.from(parts[1], "base64url"));
  return claims.exp * 1000 > Date.now() ? claims.sub : null;
}

function listen(server, addr) {
  const [host, port] = addr.split(":");
  return new Promise((resolve) => server.listen({ host, port: Number(port), backlog: 4096 }, resolve));
}

function readBody(req) {
  return new Promise((resolve, reject) => {
    const parts = [];
    req.on("data", (part) => parts.push(part));
    req.on("end", () => resolve(Buffer.concat(parts)));
    req.on("error", reject);
  });
}

async function main() {
  const pub = createClient({ url: "redis://" + redisAddr });
  const sub = pub.duplicate();
  await Promise.all([pub.connect(), sub.connect()]);
  const clients = http.createServer();
  const io = new Server(clients, { transports: ["websocket"], serveClient: false, perMessageDeflate: false,
    adapter: createAdapter(pub, sub) });
  io.use((socket, next) => {
    const user = userOf(socket.handshake.auth.token);
    if (user === null) return next(new Error("token"));
    socket.data.user = user;
    next();
  });
  io.on("connection", (socket) => socket.join("#" + socket.data.user));

  // A payload is JSON text already; parsing it is what a business system's
  // object costs here.
  const emit = (to, payload) => to.emit("m", JSON.parse(payload));
  const api = http.createServer(async (req, res) => {
    const url = new URL(req.url, "http://localhost");
    const body = await readBody(req);
    switch (url.pathname) {
      case "/publish":
        emit(io.to("#" + url.searchParams.get("u")), body.toString());
        break;
      case "/batch":
        for (let at = 0; at + 6 < body.length; ) {
          const user = body.readUInt32BE(at);
          const size = body.readUInt16BE(at + 4);
          emit(io.to("#" + user), body.toString("utf8", at + 6, at + 6 + size));
          at += 6 + size;
        }
        break;
      case "/broadcast":
        emit(io, body.toString());
        break;
      case "/free":
        if (global.gc) global.gc();
        break;
      default:
        res.statusCode = 404;
    }
    res.end("{}");
  });
  api.keepAliveTimeout = 60_000;
  await listen(clients, clientsAddr);
  await listen(api, publishAddr);
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
