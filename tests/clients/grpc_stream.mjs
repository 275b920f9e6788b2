// A TypeScript partner: the generated client of gen/ts over gRPC, with connect's Node transport.
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ChatService } from "@fastchat/client/fastchat/gateway/v1/chat_service_pb.js";
import { Role } from "@fastchat/client/fastchat/common/v1/message_pb.js";

const authorized = (next) => (request) => {
  request.header.set("authorization", `Bearer ${process.env.API_KEY}`);
  return next(request);
};
const client = createClient(
  ChatService,
  createGrpcTransport({ baseUrl: `http://${process.env.GRPC_TARGET}`, interceptors: [authorized] }),
);
const seen = { text: "", sequences: [], kinds: [], models: [] };
seen.models = (await client.listModels({})).models.map((model) => model.alias);
const chat = {
  model: process.env.MODEL,
  messages: [{ role: Role.USER, content: [{ part: { case: "text", value: "Tell me of streams." } }] }],
};
for await (const { event } of client.streamChat({ chat })) {
  seen.sequences.push(Number(event.sequence));
  seen.kinds.push(event.payload.case);
  if (event.payload.case === "token") for (const delta of event.payload.value.deltas) seen.text += delta.text;
}
console.log(JSON.stringify(seen));
