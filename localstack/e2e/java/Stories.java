// The official Java SDK, unmodified, against a running stack, whose facts `make run` writes to .local/stack.json.
//
//   STACK_JSON=../../../.local/stack.json java -cp 'target/lib/*' Stories.java

import io.github.centrifugal.centrifuge.*;
import io.github.centrifugal.centrifuge.EventListener;
import java.net.*;
import java.net.http.*;
import java.nio.file.*;
import java.util.*;
import java.util.regex.Pattern;

class Stories {
    static final long patience = 60_000; // ms until something that is due counts as lost
    static final HttpClient http = HttpClient.newHttpClient();
    static String auth, collect, key; static List<String> nodes;

    /** Returns every string of that name in some JSON. */
    static List<String> all(String json, String name) {
        return Pattern.compile('"' + name + "\": *\"([^\"]*)\"").matcher(json).results().map(m -> m.group(1)).toList();
    }

    static HttpResponse<String> send(String method, String url, String body) throws Exception {
        return http.send(HttpRequest.newBuilder(URI.create(url)).header("X-API-Key", key)
            .method(method, HttpRequest.BodyPublishers.ofString(body)).build(), HttpResponse.BodyHandlers.ofString());
    }

    static String api(String method, String url, String body, Object... values) throws Exception {
        HttpResponse<String> answer = send(method, url, body.formatted(values));
        if (answer.statusCode() < 300) return answer.body();
        throw new AssertionError(method + " " + url + " answers " + answer.body());
    }

    static String post(String to, String name, int n) throws Exception {
        return all(api("POST", collect + "/v1/messages",
            "{\"to\":{\"%s\":[\"%s\"]},\"event\":\"test\",\"data\":{\"n\":%d}}", to, name, n), "id").get(0);
    }

    static String mint(String user, String ttl) throws Exception {
        return all(api("POST", auth + "/v1/tokens", "{\"user\":\"%s\",\"ttl\":\"%s\"}", user, ttl), "token").get(0);
    }

    /** One SDK client on one node, and everything it was told. */
    static class Listener extends EventListener {
        final List<String> told = new ArrayList<>();
        final Client client;
        volatile boolean offline; // its node's name is not found
        /** Starts connecting, with token and then, if there is a ttl, with others that last for it. */
        Listener(int node, String user, String device, String token, String ttl) {
            Options options = new Options();
            options.setMinReconnectDelay(20);
            options.setMaxReconnectDelay(200);
            options.setDns(name -> {
                if (offline) throw new UnknownHostException(name);
                return List.of(InetAddress.getByName(URI.create(nodes.get(node)).getHost()));
            });
            if (device != null) options.setData("{\"device\":\"%s\"}".formatted(device).getBytes());
            if (token != null) options.setToken(token);
            if (ttl != null) options.setTokenGetter(new ConnectionTokenGetter() {
                @Override public void getConnectionToken(ConnectionTokenEvent event, TokenCallback done) {
                    tell("fetch");
                    try { done.Done(null, mint(user, ttl)); } catch (Exception e) { done.Done(e, null); }
                }
            });
            client = new Client("ws://node.invalid:" + URI.create(nodes.get(node)).getPort() + "/connection/websocket", options, this);
            client.connect();
        }

        synchronized void tell(String what) { told.add(what); notifyAll(); }
        synchronized List<String> only(String what) { return told.stream().filter(t -> t.startsWith(what)).toList(); }

        /** Returns once n of what was told begin with what. */
        synchronized Listener hears(int n, String what) throws Exception {
            for (long end = System.currentTimeMillis() + patience; only(what).size() < n; wait(100))
                if (System.currentTimeMillis() > end) throw new AssertionError("not " + n + " of " + what + " in " + told);
            return this;
        }

        Listener subscribe(String topic) throws Exception {
            client.newSubscription(topic, new SubscriptionEventListener() {
                @Override public void onSubscribed(Subscription s, SubscribedEvent e) { tell("topic " + e.wasRecovering() + " " + e.getRecovered()); }
                @Override public void onUnsubscribed(Subscription s, UnsubscribedEvent e) { tell("topic ended " + e.getCode()); }
                @Override public void onPublication(Subscription s, PublicationEvent e) { tell("news " + new String(e.getData())); }
            }).subscribe();
            return hears(1, "topic");
        }

        @Override public void onConnecting(Client c, ConnectingEvent e) { tell("connecting " + e.getCode()); }
        @Override public void onConnected(Client c, ConnectedEvent e) { tell("connected"); }
        @Override public void onDisconnected(Client c, DisconnectedEvent e) { tell("disconnected " + e.getCode() + " " + e.getReason()); }
        @Override public void onError(Client c, ErrorEvent e) { if (e.getError() instanceof ReplyError r) tell("error " + r.getCode()); }
        @Override public void onPublication(Client c, ServerPublicationEvent e) {
            tell("message " + new String(e.getData()) + " " + e.getTags().get("event") + " " + e.getTags().get("id"));
        }
    }

    static void is(Object got, Object want) { if (!got.equals(want)) throw new AssertionError("got " + got + ", want " + want); }
    static Listener connected(int node, String user, String device) throws Exception {
        return new Listener(node, user, device, null, "1h").hears(1, "connected");
    }

    static void recovers(String user) throws Exception {
        Listener a = connected(0, user, null).subscribe("public:" + user);
        post("channels", "public:" + user, 1);
        String first = post("users", user, 1);
        a.hears(1, "news").hears(1, "message").offline = true;
        api("POST", collect + "/api/disconnect", "{\"user\":\"%s\",\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\"}}", user);
        a.hears(1, "connecting 3001");
        for (int n = 2; n <= 3; n++) post("channels", "public:" + user, n);
        String second = post("users", user, 2);
        a.offline = false;
        is(a.hears(3, "news").only("news"), List.of("news {\"n\":1}", "news {\"n\":2}", "news {\"n\":3}"));
        is(a.hears(2, "message").only("message"), List.of("message {\"n\":1} test " + first, "message {\"n\":2} test " + second));
        is(a.only("topic"), List.of("topic false false", "topic true true"));
    }

    static void resumesByDeviceOnTheOtherNode(String user) throws Exception {
        String first = post("users", user, 1);
        Listener before = connected(0, user, "phone").hears(1, "message {\"n\":1} test " + first);
        before.client.disconnect();
        before.hears(1, "disconnected");
        String second = post("users", user, 2), third = post("users", user, 3);
        // Message 1 may come again if its pong had not been recorded when the first went.
        List<String> got = connected(1, user, "phone").hears(1, "message {\"n\":3}").only("message");
        is(got.subList(got.size() - 2, got.size()), List.of("message {\"n\":2} test " + second, "message {\"n\":3} test " + third));
    }

    static void isRefused(String user) throws Exception {
        new Listener(0, user, null, mint(user, "1h") + "AAAA", null).hears(1, "disconnected 3500 invalid token");
        Listener a = connected(0, user, null).subscribe("secret").hears(1, "topic ended 103");
        api("DELETE", collect + "/v1/users/" + user + "/connections", "");
        a.hears(1, "disconnected 3503 force disconnect");
        String token = mint(user, "1s"), url = nodes.get(0) + "/connection/websocket?token=" + token;
        while (send("GET", url, "").statusCode() != 401) Thread.sleep(100);
        new Listener(0, user, null, token, null).hears(1, "error 109").hears(1, "disconnected 1 unauthorized");
        new Listener(0, user, null, token, "1h").hears(1, "error 109").hears(1, "connected");
    }

    public static void main(String[] args) throws Exception { // ends with exit, for the SDK's threads go on
        Thread.currentThread().setUncaughtExceptionHandler((t, e) -> { e.printStackTrace(); System.exit(1); });
        String facts = Files.readString(Path.of(System.getenv("STACK_JSON")));
        auth = all(facts, "auth").get(0); collect = all(facts, "collect").get(0);
        key = all(facts, "api_key").get(0); nodes = all(facts, "public");
        String user = "java-" + UUID.randomUUID();
        recovers(user + "-1");
        resumesByDeviceOnTheOtherNode(user + "-2");
        isRefused(user + "-3");
        System.exit(0);
    }
}
